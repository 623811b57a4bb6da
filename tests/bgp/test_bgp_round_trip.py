"""UPDATE messages of all kinds through the wire and back, in every session context that changes what octets mean.

The other message types and the attributes alone are in ``test_bgp_messages`` and ``test_bgp_attributes``; foreign messages in
``test_bgp_vectors``.
"""

from __future__ import annotations

from ipaddress import IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bgp.attributes import Attributes
from harness.bgp.messages import Framer, decode, encode
from harness.bgp.prefixes import Family, from_network, with_path_id
from harness.bgp.session import Session
from harness.bgp.update import Update
from tests.bgp.test_bgp_attributes import attributes_values

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
EVERY_ATTRIBUTE = set(Attributes._fields)

prefixes = {
    V4: st.builds(
        lambda a, n: from_network(ip_network((a, n), strict=False)), st.integers(0, 2**32 - 1), st.integers(0, 32)
    ),
    V6: st.builds(
        lambda a, n: from_network(IPv6Network((a, n), strict=False)), st.integers(0, 2**128 - 1), st.integers(0, 128)
    ),
}
hosts = {
    V4: st.integers(0x01000000, 0x7EFFFFFF).map(lambda n: n.to_bytes(4, "big")),
    V6: st.integers(1, 2**120 - 1).flatmap(
        lambda n: st.sampled_from((b"", b"\xfe\x80" + bytes(13) + b"\x01")).map(
            lambda link_local: b"\x20" + n.to_bytes(15, "big") + link_local
        )
    ),
}


@st.composite
def contexts(draw: st.DrawFn) -> Session:
    add_path = draw(st.frozensets(st.sampled_from(Family)))
    return Session(
        local_asn=65001,
        peer_asn=65001,
        asn4=True,
        families=frozenset(Family),
        add_path_receive=add_path,
        add_path_send=add_path,
        extended_message=True,
    )


@st.composite
def updates(draw: st.DrawFn, session: Session) -> Update:
    def routes(family: Family) -> list[bytes]:
        found = draw(st.lists(prefixes[family], max_size=5, unique=True))
        if family in session.add_path_receive:
            found = [with_path_id(draw(st.integers(0, 2**32 - 1)), piece) for piece in found]
        return found

    announced = {family: found for family in Family if (found := routes(family))}
    withdrawn = {family: found for family in Family if (found := routes(family))}
    if not announced:
        return Update({}, withdrawn) if withdrawn else Update(end_of_rib=draw(st.sampled_from(Family)))
    next_hop = {family: draw(hosts[family]) for family in announced}
    attributes = draw(attributes_values).evolve(
        next_hop=next_hop.get(V4, b""), partial=tuple(sorted(draw(st.sets(st.sampled_from((8, 16, 32))))))
    )
    present = {8: attributes.communities, 16: attributes.extended, 32: attributes.large}
    partial = tuple(code for code in attributes.partial if present[code])
    return Update(announced, withdrawn, attributes.evolve(partial=partial), next_hop)


@pytest.mark.spec("BGP-6", "BGP-11", "BGP-17")
@given(contexts().flatmap(lambda session: st.tuples(st.just(session), updates(session))))
def test_an_update_is_read_as_it_was_written(case: tuple[Session, Update]) -> None:
    session, update = case
    wire = encode(update, session)
    framer = Framer()
    framer.max_length = session.max_length
    (cut,) = framer.feed(wire)
    again = decode(*cut, session)
    assert again == update
    assert encode(again, session) == wire


def test_the_strategy_knows_every_attribute() -> None:
    """An attribute that is new has to come into the round trip."""
    assert {
        "origin",
        "as_path",
        "next_hop",
        "med",
        "local_pref",
        "atomic_aggregate",
        "aggregator",
        "communities",
        "originator_id",
        "cluster_list",
        "extended",
        "large",
        "unknown",
        "partial",
    } == EVERY_ATTRIBUTE
