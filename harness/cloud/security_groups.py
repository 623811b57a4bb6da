"""Basic security groups of ECS instances (ECMP-42): their rules for a console's user, and the packet filter that they become.

Document 001 asks for it before anything else: the security groups of the ECS instances have to let the data centre's traffic in. What a
group does is the vendor's page "Security group rules"†: stateful; everything out; in from members of the group, and what
custom rules accept. Custom rules of all groups of an instance are sorted together, by priority, a drop before an accept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol

from harness.cloud.findings import Finding, Severity
from harness.cloud.resources import DataCentre, Ecs, InboundRule, SecurityGroup, Vpc
from harness.plan import FilterRule, Node, PacketFilter

#: The vendor's limits†: custom rules in a group, groups of an instance.
RULES_OF_A_GROUP = 200
GROUPS_OF_AN_INSTANCE = 10

_ALL_PORTS = "-1/-1"


class Walled(Protocol):
    """What estates of every kind with VPCs and client blocks have."""

    @property
    def vpcs(self) -> tuple[Vpc, ...]: ...

    @property
    def data_centres(self) -> tuple[DataCentre, ...]: ...


def admitting(name: str, blocks: Iterable[str]) -> SecurityGroup:
    """The group that document 001 asks for: it lets in whatever comes from these blocks."""
    return SecurityGroup(name, tuple(InboundRule(block) for block in blocks))


def filter_of(vpc: Vpc, instance: Ecs) -> PacketFilter | None:
    """The filter of an instance; None in a VPC without security groups. Groups and rules must be sound (:data:`RULES`)."""
    if not vpc.security_groups:
        return None
    groups = [group for group in vpc.security_groups if group.name in instance.security_groups]
    custom = [
        (rule.priority, rule.policy == "accept", FilterRule(rule.policy, rule.source, rule.protocol, span, label))
        for group in groups
        for number, rule in enumerate(group.inbound, 1)
        for span, label in [(_ports(rule), f"inbound rule {number} of {group.name}")]
    ]
    inside = [
        FilterRule("accept", str(ip_network(other.address)), label=f"members of {group.name}")
        for group in groups
        for other in vpc.instances
        if group.interconnected and group.name in other.security_groups and other != instance
    ]
    rules = (*(rule for *_, rule in sorted(custom, key=lambda each: each[:2])), *inside)
    return PacketFilter(" and ".join(group.name for group in groups), rules)


def first_match(wall: PacketFilter, source: str, protocol: str, port: int = 0) -> FilterRule | None:
    """The rule that decides on a new connection; None: no rule does, and it is refused."""
    for rule in wall.rules:
        low, high = rule.ports or (0, 65535)
        if ip_address(source) in ip_network(rule.source) and rule.protocol in ("all", protocol) and low <= port <= high:
            return rule
    return None


def refusal(node: Node, source: str, protocol: str, port: int = 0, packets: int | None = None) -> str | None:
    """Why an instance's security groups refuse a connection, and the remedy; None where they do not."""
    if node.filter is None:
        return None
    rule = first_match(node.filter, source, protocol, port)
    if rule is not None and rule.action == "accept":
        return None
    what = f"{protocol} to port {port}" if port else protocol
    counted = "" if packets is None else f" ({packets} packet{'' if packets == 1 else 's'})"
    why = "no inbound rule lets it in" if rule is None else f"{rule.label} drops it"
    remedy = "Add one that accepts it" if rule is None else "Change that rule, or accept it with a higher priority"
    return (
        f"{node.name} ({node.label}): security group {node.filter.name} refuses {what} from {source}{counted}: {why} (ECMP-42). "
        f"{remedy}; the route tables do not depend on it."
    )


# -------------------------------------------------------------------------------------------------------------- before anything runs


def inbound_rules_are_sound(estate: Walled) -> Iterator[Finding]:
    for owner, group in _groups(estate):
        if len(group.inbound) > RULES_OF_A_GROUP:
            rule = f"it has {len(group.inbound)} rules; a security group takes at most {RULES_OF_A_GROUP}"
            yield Finding(owner, rule, "ECMP-42", "Join rules, or put some into another group")
        for number, each in enumerate(group.inbound, 1):
            for broken, remedy, field in _broken(each):
                yield Finding(f"{owner}, inbound rule {number}", broken, "ECMP-42", remedy, field=field)


def instances_have_groups(estate: Walled) -> Iterator[Finding]:
    for vpc in estate.vpcs:
        names = [group.name for group in vpc.security_groups]
        for name in sorted({name for name in names if names.count(name) > 1}):
            rule = f"VPC {vpc.name} has two of this name"
            yield Finding(f"security group {name}", rule, "ECMP-42", "Rename one", field="name")
        for instance in vpc.instances if names else ():
            owner = f"ECS {instance.name}"
            for unknown in [name for name in instance.security_groups if name not in names]:
                rule = f"security group {unknown!r} does not exist in VPC {vpc.name}"
                yield Finding(owner, rule, "ECMP-42", f"Choose {' or '.join(names)}", field="security_groups")
            if not instance.security_groups:
                rule = "it is in no security group"
                yield Finding(owner, rule, "ECMP-42", f"Put it into {' or '.join(names)}", field="security_groups")
            if len(instance.security_groups) > GROUPS_OF_AN_INSTANCE:
                rule = (
                    f"it is in {len(instance.security_groups)} security groups; at most {GROUPS_OF_AN_INSTANCE} take it"
                )
                yield Finding(owner, rule, "ECMP-42", "Join some of them", field="security_groups")
        for instance in vpc.instances if not names else ():
            if instance.security_groups:
                rule = f"security group {instance.security_groups[0]!r} does not exist in VPC {vpc.name}"
                yield Finding(f"ECS {instance.name}", rule, "ECMP-42", "Create it first", field="security_groups")


def data_centres_are_let_in(estate: Walled) -> Iterator[Finding]:
    """The document's prerequisite: a warning, since no table depends on it."""
    blocks = [block for centre in estate.data_centres for block in centre.blocks]
    blocks += [block for centre in estate.data_centres for device in centre.devices for block in device.blocks]
    for vpc in estate.vpcs:
        kept_out: dict[tuple[str, str, str], list[str]] = {}
        for instance in vpc.instances:
            wall = filter_of(vpc, instance)
            shut = [block for block in blocks if wall is not None and not _lets_some_in(wall, block)]
            if wall is not None and shut:
                kept_out.setdefault((instance.security_groups[0], wall.name, ", ".join(shut)), []).append(instance.name)
        for (first, groups, shut_out), instances in kept_out.items():
            who = "it lets" if first == groups else f"{groups} let"
            rule = f"{who} in nothing from {shut_out} of the data centre to {', '.join(f'ECS {each}' for each in instances)}"
            remedy = f"Add an inbound rule that accepts {shut_out}; the route tables do not depend on it"
            yield Finding(f"security group {first}", rule, "ECMP-42", remedy, Severity.WARNING)


def _lets_some_in(wall: PacketFilter, block: str) -> bool:
    """Does a rule accept anything from a part of the block, before one drops all of it?"""
    inside = ip_network(block)
    for rule in wall.rules:
        source = ip_network(rule.source)
        if rule.action == "accept" and source.overlaps(inside):
            return True
        if rule.action == "drop" and rule.protocol == "all" and _covers(source, inside):
            return False
    return False


def _covers(source: IPv4Network | IPv6Network, inside: IPv4Network | IPv6Network) -> bool:
    return source.version == inside.version and inside.subnet_of(source)  # type: ignore[arg-type]


def _groups(estate: Walled) -> Iterator[tuple[str, SecurityGroup]]:
    for vpc in estate.vpcs:
        for group in vpc.security_groups:
            yield f"security group {group.name}", group


def _broken(rule: InboundRule) -> Iterator[tuple[str, str, str]]:
    """(rule, remedy, field) for all that is wrong with a rule."""
    try:
        ip_network(rule.source)
    except ValueError as error:
        yield f"source: {error}", "Give a CIDR block without host bits, such as 192.168.0.0/24", "source"
    if not 1 <= rule.priority <= 100:
        yield f"priority {rule.priority} is not in 1 to 100", "Choose 1 (first) to 100 (last)", "priority"
    ported = rule.protocol in ("tcp", "udp")
    span = _span(rule.ports)
    if rule.ports == _ALL_PORTS:
        return
    if not ported:
        yield f"ports {rule.ports!r} of {rule.protocol}, which has none", f"Write {_ALL_PORTS}", "ports"
    elif span is None or not 1 <= span[0] <= span[1] <= 65535:
        yield f"ports {rule.ports!r} are no range of 1 to 65535", "Write FIRST/LAST, such as 22/22", "ports"


def _span(text: str) -> tuple[int, int] | None:
    first, _, last = text.partition("/")
    return (int(first), int(last)) if first.isdecimal() and last.isdecimal() else None


def _ports(rule: InboundRule) -> tuple[int, ...]:
    return () if rule.ports == _ALL_PORTS else _span(rule.ports) or ()


#: Judged first and alone, as broken sources and names would trip the rules after them.
FIRST = (inbound_rules_are_sound, instances_have_groups)
RULES = (data_centres_are_let_in,)


def groups_of(names: Sequence[str] | None, vpc_groups: Sequence[SecurityGroup]) -> tuple[str, ...]:
    """The groups of an instance as a document has them: those named, or every group of the VPC."""
    return tuple(group.name for group in vpc_groups) if names is None else tuple(names)
