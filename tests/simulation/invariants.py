"""What must hold once nothing moves any more: said of the real speakers, with ``reference`` as the judge of their tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

from harness.bgp import prefixes as nlri
from harness.bgp.adjacency import Adjacency
from harness.bgp.attributes import Attributes, WellKnownCommunity
from harness.bgp.fsm import State
from harness.bgp.paths import Path
from harness.bgp.prefixes import Family
from tests.simulation import reference
from tests.simulation.network import Node, World
from tests.simulation.reference import Choice, Offer
from tests.simulation.tcp import End

_NAMES = {int(item): item.name.lower().replace("_", "-") for item in WellKnownCommunity}
_QUIET_TIMERS = {
    # RFC 4271 8.2.2: Active leaves it running when TCP fails, and Idle ignores it.
    State.IDLE: {"connect_retry"},
    State.CONNECT: {"connect_retry", "dial_retry"},
    State.ACTIVE: {"connect_retry", "dial_retry"},
    State.OPEN_SENT: {"hold"},
    State.OPEN_CONFIRM: {"hold", "keepalive"},
    State.ESTABLISHED: {"hold", "keepalive"},
}


def violations(world: World) -> list[str]:
    """Every invariant that does not hold, one line each, with the nodes and values that show it."""
    found = [*machines(world), *leaks(world)]
    # Where the sessions are wrong the tables cannot be right: one cause, one message.
    return found or [*tables(world), *forwarding(world)]


# --------------------------------------------------------------------------------------------------------------- state machines


def is_calm(world: World) -> bool:
    """Every session that has to be is up, at both ends, on one connection; nobody waits for a restart to end."""
    return all(_joined(one, other) for one, other in reference.sessions(world)) and not any(
        node.speaker is not None
        and (node.speaker._deferral.restarting or any(a.helper.stale for a in node.speaker.adjacencies.values()))
        for node in world.nodes.values()
    )


def _joined(one: Node, other: Node) -> bool:
    near = _connection(one, other.name)
    far = _connection(other, one.name)
    return near is not None and near.other is far and far is not None and not near.forgotten and not far.forgotten


def _connection(node: Node, neighbor: str) -> End | None:
    """The connection that a session of ``node`` runs on; None where it is down."""
    if node.speaker is None or (adjacency := node.speaker.adjacencies.get(neighbor)) is None or not adjacency.is_up:
        return None
    standing = adjacency.peer.standing()
    return node.ends.get((neighbor, standing[0])) if len(standing) == 1 else None


def machines(world: World) -> Iterator[str]:
    """Both ends of each session say the same, and nothing but it is left of the neighbours' timers and connections."""
    wanted = set(reference.sessions(world))
    for node in world.nodes.values():
        assert node.speaker is not None
        for adjacency in node.speaker.adjacencies.values():
            far = world.nodes[adjacency.name]
            where = f"{node.name} -> {far.name}"
            peer = adjacency.peer
            timers = set(peer.timers(node.now()))
            if (node, far) in wanted:
                if not _joined(node, far):
                    yield f"{where}: not in session with the other end on one connection: {peer.state.value}"
                    continue
                yield from _agreement(node, far)
            elif peer.state is State.ESTABLISHED or adjacency.is_up:
                yield f"{where}: in session, which one side has shut"
            elif adjacency.config.shutdown and (peer.state is not State.IDLE or timers - {"connect_retry"}):
                yield f"{where}: shut, and in {peer.state.value} with timers {sorted(timers)}"
            if adjacency.is_up is not (peer.state is State.ESTABLISHED) or (peer.session is None) is adjacency.is_up:
                yield f"{where}: the adjacency says up={adjacency.is_up}, its machine {peer.state.value}"
            if len(peer.standing()) > 1:
                yield f"{where}: {len(peer.standing())} connections stand"
            allowed = _QUIET_TIMERS[peer.state] | ({"idle_hold"} if not adjacency.config.shutdown else set())
            if timers - allowed:
                yield f"{where}: timers {sorted(timers - allowed)} run in {peer.state.value}"


def _agreement(one: Node, other: Node) -> Iterator[str]:
    near, far = _adjacency(one, other.name).peer.session, _adjacency(other, one.name).peer.session
    assert near is not None and far is not None
    for mine, theirs in (
        ("add_path_send", "add_path_receive"),
        ("families", "families"),
        ("hold_time", "hold_time"),
        ("asn4", "asn4"),
        ("extended_message", "extended_message"),
        ("ebgp", "ebgp"),
        ("local_identifier", "peer_identifier"),
        ("local_asn", "peer_asn"),
    ):
        if getattr(near, mine) != getattr(far, theirs):
            yield f"{one.name} -> {other.name}: {mine} is {getattr(near, mine)}, {theirs} there {getattr(far, theirs)}"


def _adjacency(node: Node, name: str) -> Adjacency:
    assert node.speaker is not None
    return node.speaker.adjacencies[name]


# ---------------------------------------------------------------------------------------------------------------------- leaks


def leaks(world: World) -> Iterator[str]:
    """Nothing is kept of what has ended: routes, sources, timers, connections, postponed work."""
    for node in world.nodes.values():
        speaker = node.speaker
        assert speaker is not None
        held = {key for key, end in node.ends.items() if end.stands}
        standing = {(a.name, conn) for a in speaker.adjacencies.values() for conn in a.peer.standing()}
        if held != standing:
            yield f"{node.name}: connections {sorted(held)} are held, the machines have {sorted(standing)}"
        deadlines = sum(a.peer.deadline() is not None for a in speaker.adjacencies.values())
        if len(node.timers) != deadlines:
            yield f"{node.name}: {len(node.timers)} timers run for {deadlines} deadlines"
        if speaker._walks:
            yield f"{node.name}: {len(speaker._walks)} walks have not ended"
        for family, table in speaker.tables.items():
            yield from _leaks_of_table(node, family)
            if table.changed:
                yield f"{node.name}: {table.changed} changed prefixes were never taken"
        for adjacency in speaker.adjacencies.values():
            where = f"{node.name} -> {adjacency.name}"
            if not adjacency.is_up and (adjacency.inbound or adjacency.outbound):
                yield f"{where}: the session is down and its tables are there"
            for outbound in adjacency.outbound.values():
                if outbound.waiting:
                    yield f"{where}: announcements wait and nothing sends them"
                if None in outbound.sent.values() or () in outbound.sent.values():
                    yield f"{where}: Adj-RIB-Out has empty rows"


def _leaks_of_table(node: Node, family: Family) -> Iterator[str]:
    """Loc-RIB holds exactly the accepted rows of the Adj-RIBs-In and the own networks."""
    speaker = node.speaker
    assert speaker is not None
    expected: Counter[tuple[bytes, Path]] = Counter()
    for adjacency in speaker.adjacencies.values():
        if (inbound := adjacency.inbound.get(family)) is not None:
            rejected = 0
            for key, path in inbound.rib.routes.items():
                if path.rejected is None:
                    expected[inbound.rib.prefix_of(key), path] = 1
                rejected += path.rejected is not None
            if rejected != inbound.rib.rejected:
                yield f"{node.name} -> {adjacency.name}: {rejected} refused routes are counted as {inbound.rib.rejected}"
    for own_family, key in speaker._originated:
        if own_family is family:
            expected[key, speaker._own_path] = 1
    present = Counter(
        (prefix, path)
        for prefix, selection in speaker.tables[family].selections.items()
        for path in selection.candidates
    )
    for prefix, path in (present - expected) | (expected - present):
        where = "Loc-RIB has, and no Adj-RIB-In" if (prefix, path) in present else "an Adj-RIB-In has, and Loc-RIB not"
        yield f"{node.name}: {where}: {nlri.text(prefix, family)} by {path.source.name}"


# ---------------------------------------------------------------------------------------------------------------------- tables


def tables(world: World) -> Iterator[str]:
    """Each session carries what a naive export of the teller's table gives, and each choice is what a naive decision gives."""
    for teller, hearer in reference.sessions(world):
        yield from _carried(teller, hearer)
    for node in world.nodes.values():
        yield from _chosen(node)


def _carried(teller: Node, hearer: Node) -> Iterator[str]:
    outbound, inbound = _adjacency(teller, hearer.name).outbound, _adjacency(hearer, teller.name).inbound
    where = f"{teller.name} -> {hearer.name}"
    for family in outbound:
        expected: dict[str, Counter[Offer]] = {}
        selections = teller.speaker.tables[family].selections if teller.speaker is not None else {}
        for key, selection in selections.items():
            if selection.best is None:
                continue
            prefix = nlri.text(key, family)
            usable = [offer_of(path, path.attributes) for path in selection.usable]
            best = offer_of(selection.best, selection.best.attributes)
            if sent := reference.told(teller, hearer, prefix, best, usable):
                expected[prefix] = Counter(sent)
        actual: dict[str, Counter[Offer]] = {}
        rib = inbound[family].rib
        for key, path in rib.routes.items():
            prefix = nlri.text(rib.prefix_of(key), family)
            actual.setdefault(prefix, Counter())[offer_of(path, path.received)] += 1
        yield from _differences(f"{where} {family}", expected, actual)
        told = {key if not rib.add_path else bytes(4) + key for key in outbound[family].sent}
        heard = {key if not rib.add_path else bytes(4) + key[4:] for key in rib.routes}
        if told != heard:
            yield f"{where}: Adj-RIB-Out has {len(told)} prefixes, Adj-RIB-In {len(heard)}"


def _differences(where: str, expected: dict[str, Counter[Offer]], actual: dict[str, Counter[Offer]]) -> Iterator[str]:
    for prefix in sorted(expected.keys() | actual.keys()):
        wanted, there = expected.get(prefix, Counter()), actual.get(prefix, Counter())
        for offer in wanted - there:
            yield f"{where}: {prefix} {offer.short()} should have been told and was not"
        for offer in there - wanted:
            yield f"{where}: {prefix} {offer.short()} should not have been told, or not so often"


def _chosen(node: Node) -> Iterator[str]:
    speaker = node.speaker
    assert speaker is not None
    for family, table in speaker.tables.items():
        offers: dict[str, list[Offer]] = {}
        for adjacency in speaker.adjacencies.values():
            if (inbound := adjacency.inbound.get(family)) is not None:
                for key, path in inbound.rib.routes.items():
                    prefix = nlri.text(inbound.rib.prefix_of(key), family)
                    received = offer_of(path, path.received)
                    offers.setdefault(prefix, []).extend(reference.accepted(node, prefix, [received]))
        networks = {prefix for prefix in node.config["networks"] if nlri.family_of(prefix) is family}
        for prefix in sorted(offers.keys() | networks):
            expected = reference.choose(node, reference.own(node, prefix) + offers.get(prefix, []))
            yield from _same_choice(node, prefix, expected)
        for key in table.selections:
            if nlri.text(key, family) not in offers.keys() | networks:
                yield f"{node.name}: {nlri.text(key, family)} is in Loc-RIB, and nobody announces it"


def _same_choice(node: Node, prefix: str, expected: Choice | None) -> Iterator[str]:
    assert node.speaker is not None
    selection = node.speaker.tables[nlri.family_of(prefix)].selections.get(nlri.from_network(prefix))
    best = None if selection is None else selection.best
    if expected is None or best is None or selection is None:
        if (expected is None) is not (best is None):
            yield f"{node.name}: {prefix} has {'a' if expected is None else 'no'} best path and should {'not' if expected is None else ''}"
        return
    usable = reference.canonical(offer_of(path, path.attributes) for path in selection.usable)
    chosen = offer_of(best, best.attributes)
    multipath = [offer_of(path, path.attributes) for path in selection.multipath]
    if usable != expected.usable:
        yield f"{node.name}: {prefix} has {len(usable)} usable paths, {len(expected.usable)} are expected"
    elif chosen not in expected.first:
        yield f"{node.name}: {prefix} goes {chosen.short()}; the best is {expected.first[0].short()}"
    elif not set(multipath) <= {*expected.multipath, chosen}:
        yield f"{node.name}: {prefix} shares its load with paths that are not equal to the best"
    elif expected.full and chosen == expected.first[0] and reference.canonical(multipath) != expected.multipath:
        yield f"{node.name}: {prefix} uses {len(multipath)} paths, {len(expected.multipath)} are equal"


def fresh_start(world: World) -> Iterator[str]:
    """Each Loc-RIB is what the same configurations lead to from nothing, where the protocol determines that."""
    try:
        expected = reference.settled(world)
    except reference.NotUnique:
        return
    for name, rows in expected.items():
        node = world.nodes[name]
        for prefix, choice in rows.items():
            for line in _same_choice(node, prefix, choice):
                yield f"not as after a fresh start: {line}"
        assert node.speaker is not None
        for family, table in node.speaker.tables.items():
            for key, selection in table.selections.items():
                if selection.best is not None and nlri.text(key, family) not in rows:
                    yield f"{name}: {nlri.text(key, family)} has a best path; after a fresh start it has none"


def offer_of(path: Path, values: Attributes) -> Offer:
    """A path of the speaker in the reference's words; ``values`` are its attributes, or those that were received."""
    source = path.source
    if source.kind.value == "local":
        return Offer("", "local")
    return Offer(
        by=source.name,
        kind=source.kind.value,
        path=tuple(asn for segment in values.as_path for asn in segment.asns),
        next_hop=str(IPv4Address(path.next_hop[-4:])),
        local_pref=values.local_pref,
        med=values.med,
        communities=frozenset(_NAMES.get(c, f"{c >> 16}:{c & 0xFFFF}") for c in values.communities),
        identifier=source.router_id,
        address=str(ip_address(source.address)),
        originator=None if values.originator_id is None else int(values.originator_id),
        clusters=values.cluster_list,
    )


# ------------------------------------------------------------------------------------------------------------------ forwarding


def forwarding(world: World) -> Iterator[str]:
    """A packet for any prefix, whatever paths it takes, ends where the prefix is; none comes by a node twice."""
    for family in Family:
        keys = {key for node in world.nodes.values() for key in _selections(node, family)}
        for key in sorted(keys):
            for name in world.nodes:
                yield from _walk(world, family, key, name, ())


def _selections(node: Node, family: Family) -> dict[bytes, object]:
    assert node.speaker is not None
    return dict(node.speaker.tables[family].selections)


def _walk(world: World, family: Family, key: bytes, name: str, before: tuple[str, ...]) -> Iterator[str]:
    if name in before:
        yield f"forwarding loop for {nlri.text(key, family)}: {' -> '.join((*before, name))}"
        return
    node = world.nodes[name]
    assert node.speaker is not None
    selection = node.speaker.tables[family].selections.get(key)
    if selection is None or selection.best is None:
        if before:
            yield f"{nlri.text(key, family)}: {before[-1]} sends it to {name}, which has no route"
        return
    hops = {_next_node(world, node, path) for path in selection.multipath if path.next_hop}
    for hop in sorted(hops):
        yield from _walk(world, family, key, hop, (*before, name))


def _next_node(world: World, node: Node, path: Path) -> str:
    """The next router on the way to a next hop: its owner, or a router of the own AS that has a link to it."""
    owner, link = world.owners[str(IPv4Address(path.next_hop[-4:]))]
    if node in link.nodes:
        return owner.name
    beside = link.far(owner)
    return beside.name
