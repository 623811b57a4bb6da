"""BIRD's configuration file for a speaker's configuration. Pure text, no I/O."""

from __future__ import annotations

from harness.bgp.config import Neighbor, SpeakerConfig
from harness.daemons.driver import hold_time, local_asn
from harness.daemons.policies import IPV4, IPV6, bird_filter, bird_name

TABLES = {"ipv4": "master4", "ipv6": "master6"}
KERNELS = {"ipv4": "kernel4", "ipv6": "kernel6"}
#: Where next hops are looked up: the links alone, so that what is looked up is never announced.
IGPS = {"ipv4": "links4", "ipv6": "links6"}
_VERSIONS = {"ipv4": IPV4, "ipv6": IPV6}
#: A limit's action in BIRD's words. Its "restart" comes back by the protocol's own error wait time.
_LIMITS = {"warn": "warn", "drop": "block", "teardown": "restart"}
#: Seconds that BIRD waits before it dials; with its own default of 5 a lab would wait for little else.
_CONNECT_DELAY = 1


def whole(config: SpeakerConfig) -> str:
    """The file."""
    lines = ["log stderr all;", "debug protocols { states, events, packets };"]
    if config.router_id:
        lines.append(f"router id {config.router_id};")
    lines.append("protocol device {}")
    lines += [f"{family} table {name};" for family, name in IGPS.items()]
    lines.append(f"protocol direct {{ {' '.join(f'{f} {{ table {name}; }};' for f, name in IGPS.items())} }}")
    merged = config.multipath > 1 or config.multipath_ibgp > 1
    for family in TABLES:
        paths = f" merge paths yes limit {max(config.multipath, config.multipath_ibgp)};" if merged else ""
        install = "where source = RTS_BGP && dest != RTD_UNREACHABLE" if config.fib.install else "none"
        metric = config.fib.metric if family == "ipv4" else config.fib.metric_ipv6
        lines.append(
            f"protocol kernel {KERNELS[family]} {{ metric {metric};{paths} {family} {{ import none; export {install}; }}; }}"
        )
        lines.append(_static(config, family))
    for neighbor in config.neighbors:
        lines += neighbor_lines(config, neighbor)
    # BFD as a whole is one protocol, with a block for each set of timers.
    if any(neighbor.bfd is not None for neighbor in config.neighbors):
        lines.append("protocol bfd {}")
    return "\n".join(lines) + "\n"


def _static(config: SpeakerConfig, family: str) -> str:
    """The own networks: routes to nowhere that are announced and not written to the kernel."""
    networks = [n.prefix for n in config.networks if (":" in n.prefix) == (family == "ipv6")]
    routes = " ".join(f"route {prefix} unreachable;" for prefix in networks)
    return f"protocol static networks_{family} {{ {family}; {routes} }}"


def neighbor_lines(config: SpeakerConfig, neighbor: Neighbor) -> list[str]:
    """The filters and the protocol of a neighbour."""
    lines: list[str] = []
    channels: list[str] = []
    for family in neighbor.address_families:
        uses: dict[str, str] = {}
        for direction, rules in (("import", neighbor.import_), ("export", neighbor.export)):
            if rules or neighbor.strict:
                name = bird_name(f"{neighbor.name}-{direction}-{family}")
                lines.append(bird_filter(name, rules, _VERSIONS[family], config, neighbor))
                uses[direction] = f"filter {name}"
            else:
                uses[direction] = "all"
        options = [f"igp table {IGPS[family]};", f"import {uses['import']};", f"export {uses['export']};"]
        if neighbor.next_hop_self:
            options.append("next hop self;")
        if neighbor.add_path != "none":
            words = {"send": "tx", "receive": "rx", "both": "on"}
            options.append(f"add paths {words[neighbor.add_path]};")
        if (most := neighbor.maximum_prefixes) is not None:
            options.append(f"import limit {most.limit} action {_LIMITS[most.action]};")
        channels.append(f"  {family} {{ {' '.join(options)} }};")
    source = f"{neighbor.local_address} " if neighbor.local_address else ""
    seconds = hold_time(config, neighbor)
    lines.append(f"protocol bgp {bird_name(neighbor.name)} {{")
    lines.append(f"  local {source}as {local_asn(config, neighbor)};")
    lines.append(f"  neighbor {neighbor.address} port {neighbor.port} as {neighbor.remote_asn};")
    lines.append(f"  hold time {seconds};{f' keepalive time {max(seconds // 3, 1)};' if seconds else ''}")
    lines.append(f"  connect delay time {_CONNECT_DELAY}; connect retry time {config.connect_retry_time};")
    lines.append("  error wait time 1, 30; startup hold time 20;")
    if neighbor.ebgp_multihop:
        lines.append(f"  multihop {neighbor.ebgp_multihop};")
    elif neighbor.remote_asn != local_asn(config, neighbor):
        lines.append("  direct;")
    if not neighbor.four_octet_asn:
        lines.append("  enable as4 off;")
    if neighbor.passive:
        lines.append("  passive;")
    if neighbor.shutdown:
        lines.append("  disabled;")
    if neighbor.allow_as_in:
        lines.append(f"  allow local as {neighbor.allow_as_in};")
    if neighbor.enforce_first_as and neighbor.remote_asn != local_asn(config, neighbor):
        lines.append("  enforce first as;")
    if (secret := neighbor.secret()) is not None:
        lines.append(f'  password "{secret.decode()}";')
    if (restart := neighbor.graceful_restart) is None:
        lines.append("  graceful restart off;")
    else:
        mode = "on" if restart.mode == "full" else "aware"
        lines.append(f"  graceful restart {mode}; graceful restart time {restart.restart_time};")
    if neighbor.bfd is not None:
        timers = f"interval {neighbor.bfd.interval_ms} ms; multiplier {neighbor.bfd.multiplier};"
        if neighbor.bfd.auth is not None:
            auth = neighbor.bfd.auth
            kind = "meticulous keyed sha1" if auth.type.startswith("meticulous") else "keyed sha1"
            timers += f' authentication {kind}; password "{auth.key.get_secret_value()}" {{ id {auth.key_id}; }};'
        lines.append(f"  bfd {{ {timers} }};")
    return [*lines, *channels, "}"]
