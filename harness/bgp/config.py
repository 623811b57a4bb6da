"""The speaker's configuration: one JSON file, checked whole before anything runs.

Every field is documented here and printed by ``vbrlab-bgpd --schema``. A wrong file raises :class:`ConfigError`, which names the
object, the rule and the remedy, and never repeats a key. Times are seconds; ASNs are plain integers (RFC 6793: four octets).

This module reads no socket and no kernel state: what it accepts may still fail to bind or to resolve.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from harness.bgp.as_path import AS_TRANS
from harness.bgp.attributes import community, large_community
from harness.bgp.bfd_options import BfdOptions
from harness.bgp.monitoring_options import BmpCollector, MetricsOptions, MrtOptions
from harness.bgp.neighbor_options import GracefulRestartOptions, MaximumPrefixes, Options
from harness.bgp.prefix_list import PrefixRange

TCP_MD5_KEY_MAX = 80
FamilyName = Literal["ipv4", "ipv6"]


class ConfigError(ValueError):
    """The configuration breaks a rule; one line for each breach."""


_M = TypeVar("_M", bound=Options)


def _asn(value: int) -> int:
    if value == AS_TRANS:
        raise ValueError(f"ASN {AS_TRANS} is AS_TRANS, which stands for 4-octet ASNs (RFC 6793); use a real one")
    return value


Asn = Annotated[int, Field(ge=1, le=4294967295)]
HoldTime = Annotated[int, Field(ge=0, le=65535)]


def _hold_time(value: int | None) -> int | None:
    if value in (1, 2):
        raise ValueError(f"hold time {value} s is not allowed: 0 (no keepalives) or at least 3 (RFC 4271 4.2)")
    return value


class Rule(Options):
    """One term of a policy. All conditions given must hold; a term without any matches every route. The first term that matches decides."""

    action: Literal["permit", "deny"] = Field(
        description="permit: take the route with the changes below; deny: refuse it"
    )
    prefixes: tuple[str, ...] = Field((), description='any of these: "10.0.0.0/8" exactly, or "10.0.0.0/8 ge 16 le 24"')
    communities: tuple[str, ...] = Field(
        (), description='carries at least one of these: "65531:100", "65531:1:2" (large), "no-export"'
    )
    neighbors: tuple[str, ...] = Field((), description="learned from one of the neighbours of these names")
    as_path: str | None = Field(
        None, description='regular expression searched in the AS path as text, "65531 65530"; "^$" is the empty path'
    )
    local: bool | None = Field(None, description="true: only networks of this speaker; false: only learned routes")
    add_communities: tuple[str, ...] = Field((), description="communities to add")
    remove_communities: tuple[str, ...] = Field((), description='communities to remove; "*" removes all')
    local_pref: int | None = Field(None, ge=0, le=4294967295, description="LOCAL_PREF to set")
    med: int | None = Field(None, ge=0, le=4294967295, description="MULTI_EXIT_DISC to set")
    forget_as_path: bool = Field(
        False, description="empty the AS path, as a system does that cannot carry it: loop detection is lost with it"
    )
    prepend: int = Field(0, ge=0, le=32, description="how many times to prepend the own ASN (export)")
    next_hop_self: bool = Field(False, description="announce this speaker's own address as next hop (export)")

    @field_validator("prefixes")
    @classmethod
    def _prefixes(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for text in values:
            PrefixRange.parse(text)
        return values

    @field_validator("communities", "add_communities", "remove_communities")
    @classmethod
    def _communities(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for text in values:
            if text.count(":") == 2:
                large_community(text)
            elif text != "*":
                community(text)
        return values

    @field_validator("as_path")
    @classmethod
    def _as_path(cls, text: str | None) -> str | None:
        try:
            re.compile(text or "")
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from None
        return text


class Network(Options):
    """A block this speaker originates."""

    prefix: str = Field(description='"10.0.0.0/24", without host bits')
    require_route: bool = Field(
        False, description="announce only while the kernel has a route of another protocol to exactly this block"
    )

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, text: str) -> str:
        return str(parse_network(text))


class NexthopGroups(Options):
    """How routes are written to the kernel (Documentation/networking/nexthop-group-resilient)."""

    kind: Literal["resilient", "plain", "multipath"] = Field(
        "resilient",
        description="resilient: surviving flows keep their path; plain: hash threshold; multipath: no next-hop objects",
    )
    buckets: int = Field(96, ge=1, le=65535, description="buckets of a resilient group")
    idle_timer: float = Field(0.0, ge=0, description="a bucket idle this long may move to restore balance")
    unbalanced_timer: float = Field(
        0.0, ge=0, description="buckets move after this long out of balance; 0: never forced"
    )


class FibConfig(Options):
    """The kernel's table."""

    install: bool = Field(True, description="false: the speaker keeps its routes to itself")
    table: int = Field(254, ge=1, le=4294967295, description="kernel route table; 254 is main")
    metric: int = Field(20, ge=1, description="metric of the IPv4 routes; connected and static routes have lower ones")
    metric_ipv6: int = Field(2048, ge=1, description="metric of the IPv6 routes; the kernel's own are 256 and 1024")
    repair: bool = Field(
        False, description="write again what somebody else removed; false: say so (fib.lost) and leave it"
    )


class Neighbor(Options):
    """A BGP neighbour (RFC 4271). ``import`` and ``export`` end with an implicit permit, or deny where ``strict``."""

    name: str = Field(min_length=1, description="how events and tables call it")
    description: str = Field("", description="a text for people")
    address: str = Field(description='its IP address; a link-local one with its interface, "fe80::2%eth1"')
    remote_asn: Asn = Field(description="its ASN; equal to the local one: iBGP")
    local_asn: Asn | None = Field(None, description="the ASN shown to this neighbour; default: the speaker's")
    local_address: str | None = Field(None, description="source address of the session; default: the kernel's choice")
    port: int = Field(179, ge=1, le=65535, description="TCP port dialled")
    ebgp_multihop: int | None = Field(
        None, ge=1, le=255, description="TTL of an eBGP session over more than one hop; default 1 (direct)"
    )
    ttl_security: int | None = Field(
        None,
        ge=1,
        le=254,
        description="GTSM (RFC 5082): send with TTL 255 and take nothing from more than so many hops away; 1: the same link",
    )
    fall_over: bool = Field(
        False,
        description="end the session as soon as the kernel has no route to the neighbour, not only by the hold timer",
    )
    bfd: BfdOptions | None = Field(
        None, description="watch the path by BFD (RFC 5880): the session ends at once when it is lost; default: no BFD"
    )
    next_hop_self: bool = Field(False, description="announce the own address as next hop also over iBGP")
    route_reflector_client: bool = Field(
        False, description="iBGP: pass other iBGP routes on to it, and its routes on to others (RFC 4456)"
    )
    add_path: Literal["none", "send", "receive", "both"] = Field("none", description="RFC 7911")
    families: tuple[FamilyName, ...] = Field((), description="address families; default: that of the address")
    passive: bool = Field(False, description="wait for the neighbour to connect")
    shutdown: bool = Field(False, description="configured but administratively down")
    key: SecretStr | None = Field(None, description="TCP MD5 key (RFC 2385), at most 80 octets")
    key_file: Path | None = Field(None, description="file that holds the key instead")
    hold_time: HoldTime | None = Field(None, description="default: the speaker's")
    connect_retry_time: int | None = Field(None, ge=1, le=65535, description="default: the speaker's")
    delay_open: float = Field(
        0,
        ge=0,
        le=240,
        description="wait so many seconds for the neighbour's OPEN before the own (DelayOpen, RFC 4271 8.1.1)",
    )
    damp_peer_oscillations: bool = Field(
        True, description="after an error the session stays in Idle twice as long each time (RFC 4271 8.1.1)"
    )
    idle_hold_time: float = Field(1, gt=0, le=3600, description="how long the first time")
    idle_hold_time_max: float = Field(60, gt=0, le=86400, description="and how long at most")
    four_octet_asn: bool = Field(
        True,
        description="offer 4-octet AS numbers (RFC 6793); false: speak as a 2-octet speaker, with AS_TRANS and AS4_PATH",
    )
    enforce_first_as: bool = Field(
        True, description="eBGP: refuse routes whose first ASN is not the neighbour's (RFC 4271 6.3)"
    )
    allow_as_in: int = Field(0, ge=0, le=10, description="how often the own ASN may stand in a received AS path")
    maximum_prefixes: MaximumPrefixes | None = Field(
        None, description="most routes taken from the neighbour, and what happens beyond; default: no limit"
    )
    graceful_restart: GracefulRestartOptions | None = Field(
        None, description="keep routes over a restart of either side; default: they go with the session"
    )
    import_: tuple[Rule, ...] = Field((), alias="import", description="policy for received routes")
    export: tuple[Rule, ...] = Field((), description="policy for announced routes")
    strict: bool = Field(False, description="policies end with deny instead of permit (RFC 8212)")

    _check_asn = field_validator("remote_asn")(_asn)
    _check_hold = field_validator("hold_time")(_hold_time)

    @field_validator("local_asn")
    @classmethod
    def _check_local_asn(cls, value: int | None) -> int | None:
        return None if value is None else _asn(value)

    @field_validator("address", "local_address")
    @classmethod
    def _addresses(cls, text: str | None) -> str | None:
        return None if text is None else str(parse_address(text))

    @field_validator("key")
    @classmethod
    def _key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            check_key(key.get_secret_value())
        return key

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.key is not None and self.key_file is not None:
            raise ValueError("both key and key_file are given; keep one")
        if self.ttl_security is not None and self.ebgp_multihop is not None:
            raise ValueError(
                "both ttl_security and ebgp_multihop are given; keep one (ttl_security counts the hops too)"
            )
        address = ipaddress.ip_address(self.address)
        scope = address.scope_id if isinstance(address, ipaddress.IPv6Address) else None
        if address.is_link_local and address.version == 6 and scope is None:
            raise ValueError(f"address {address} is link-local: name the interface as well, {address}%eth1")
        if scope is not None and not address.is_link_local:
            raise ValueError(f"address {address} is not link-local; leave %{scope} out")
        if scope is not None and self.bfd is not None:
            raise ValueError(f"bfd watches no link-local address, such as {address}; use a global one")
        if (
            self.local_address is not None
            and ipaddress.ip_address(self.local_address).version != ipaddress.ip_address(self.address).version
        ):
            raise ValueError(
                f"local_address {self.local_address} and address {self.address} are of different IP versions; use one version"
            )
        return self

    @property
    def address_families(self) -> tuple[FamilyName, ...]:
        if self.families:
            return self.families
        return ("ipv6",) if ipaddress.ip_address(self.address).version == 6 else ("ipv4",)

    def secret(self) -> bytes | None:
        """The MD5 key's octets, read from ``key_file`` where one is named. Raises ConfigError when that fails."""
        if self.key is not None:
            return self.key.get_secret_value().encode()
        if self.key_file is None:
            return None
        try:
            text = self.key_file.read_text().rstrip("\r\n")
            check_key(text)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"neighbor {self.name}: key_file {self.key_file} cannot be read: {error}") from None
        except ValueError as error:
            raise ConfigError(f"neighbor {self.name}: key_file {self.key_file}: {error}") from None
        return text.encode()


class SpeakerConfig(Options):
    """A BGP speaker."""

    asn: Asn = Field(description="the own ASN")
    router_id: str | None = Field(
        None, description="BGP Identifier; default: the highest loopback address, else the highest address"
    )
    neighbors: tuple[Neighbor, ...] = Field((), description="the neighbours")
    networks: tuple[Network, ...] = Field((), description='blocks to originate: "10.0.0.0/24" or an object')
    hold_time: HoldTime = Field(90, description="proposed hold time (RFC 4271 10)")
    connect_retry_time: int = Field(120, ge=1, le=65535, description="ConnectRetryTime (RFC 4271 10)")
    multipath: int = Field(1, ge=1, le=64, description="most paths used at once where the best is eBGP")
    multipath_ibgp: int = Field(1, ge=1, le=64, description="most paths used at once where the best is iBGP")
    multipath_as_path: Literal["identical", "length"] = Field(
        "identical", description="what multipaths must share: the AS path, or only its length"
    )
    always_compare_med: bool = Field(False, description="compare MED between neighbouring ASes too")
    local_pref: int = Field(100, ge=0, le=4294967295, description="LOCAL_PREF of routes that come without one")
    selection_deferral_time: float = Field(
        360,
        gt=0,
        le=86400,
        description="after a restart that kept the kernel's routes: most seconds to wait for End-of-RIB",
    )
    cluster_id: str | None = Field(
        None, description="of a route reflector (RFC 4456 8), as an IPv4 address; default: the BGP Identifier"
    )
    ebgp_requires_policy: bool = Field(
        False,
        description="take and announce nothing over eBGP where no policy of that direction is configured (RFC 8212)",
    )
    honor_graceful_shutdown: bool = Field(
        True, description="eBGP routes with the community GRACEFUL_SHUTDOWN get LOCAL_PREF 0 (RFC 8326)"
    )
    profile: Literal["document", "rfc4271"] = Field(
        "document", description="state machine: a failed TCP connection leads to Active (document) or Idle (rfc4271)"
    )
    groups: NexthopGroups = Field(NexthopGroups(), description="next-hop groups")
    fib: FibConfig = Field(FibConfig(), description="the kernel's table")
    resolve_via_default: bool = Field(False, description="let the default route reach next hops")
    listen: tuple[str, ...] = Field(("0.0.0.0", "::"), description="addresses to listen on; none: dial only")
    port: int = Field(179, ge=1, le=65535, description="TCP port listened on")
    bmp: tuple[BmpCollector, ...] = Field((), description="BMP stations to connect to (RFC 7854)")
    mrt: MrtOptions | None = Field(None, description="MRT dumps (RFC 6396); default: none")
    metrics: MetricsOptions | None = Field(None, description="figures for Prometheus; default: not served")

    _check_asn = field_validator("asn")(_asn)
    _check_hold = field_validator("hold_time")(_hold_time)

    @field_validator("networks", mode="before")
    @classmethod
    def _plain_networks(cls, values: Any) -> Any:
        return (
            [{"prefix": v} if isinstance(v, str) else v for v in values] if isinstance(values, list | tuple) else values
        )

    @field_validator("router_id", "cluster_id")
    @classmethod
    def _identifier(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is None:
            return None
        source = "RFC 6286" if info.field_name == "router_id" else "RFC 4456 7"
        try:
            identifier = ipaddress.IPv4Address(text)
        except ValueError:
            raise ValueError(f"{info.field_name} {text!r} is no IPv4 address in dotted form ({source})") from None
        if int(identifier) == 0:
            raise ValueError(f"{info.field_name} 0.0.0.0 is not allowed ({source}); choose another")
        return str(identifier)

    @field_validator("listen")
    @classmethod
    def _listen(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(parse_address(v)) for v in values)

    @field_validator("bmp")
    @classmethod
    def _stations(cls, stations: tuple[BmpCollector, ...]) -> tuple[BmpCollector, ...]:
        names = [station.name for station in stations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"station {twice[0]} is there twice; keep one")
        return stations

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for what in ("name", "address"):
            seen: dict[str, str] = {}
            for neighbor in self.neighbors:
                value = getattr(neighbor, what)
                if value in seen:
                    raise ValueError(
                        f"neighbors {seen[value]} and {neighbor.name} have the same {what} {value}; change one"
                    )
                seen[value] = neighbor.name
        for neighbor in self.neighbors:
            if neighbor.ebgp_multihop is not None and neighbor.remote_asn == (neighbor.local_asn or self.asn):
                raise ValueError(
                    f"neighbor {neighbor.name}: ebgp_multihop is for eBGP, but AS {neighbor.remote_asn} is the own one"
                )
            own = neighbor.local_asn or self.asn
            if not neighbor.four_octet_asn and own > 65535:
                raise ValueError(
                    f"neighbor {neighbor.name}: without four_octet_asn the own AS {own} cannot be told; set local_asn"
                )
            if neighbor.route_reflector_client and neighbor.remote_asn != (neighbor.local_asn or self.asn):
                raise ValueError(
                    f"neighbor {neighbor.name}: route_reflector_client is for iBGP, but AS {neighbor.remote_asn} is another one"
                )
        return self

    @property
    def keeps_forwarding(self) -> bool:
        """Whether some neighbour is told that the kernel's routes outlive a restart (RFC 4724)."""
        return any(n.graceful_restart is not None and n.graceful_restart.mode == "full" for n in self.neighbors)


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises ValueError that names the text."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'{text!r} is no IP address; write it like "10.0.0.1" or "fd00::1"') from None


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Raises ValueError that names the text, and the block meant where host bits are set."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{text!r} is no prefix; write it like "10.0.0.0/24"') from None
    raise ValueError(f"{text} has host bits set; the block is {meant}")


def check_key(key: str) -> None:
    """The kernel's limits on a TCP MD5 key. The text of the error does not repeat the key."""
    if not 1 <= len(key.encode()) <= TCP_MD5_KEY_MAX:
        raise ValueError(f"the key has {len(key.encode())} octets; TCP MD5 takes 1 to {TCP_MD5_KEY_MAX}")


def parse_config(data: object) -> SpeakerConfig:
    """The configuration that ``data`` (parsed JSON) describes. Raises ConfigError with one line for each breach."""
    return _validated(SpeakerConfig, data, "configuration")


def parse_neighbor(data: object) -> Neighbor:
    """One neighbour, as the control method ``neighbor.add`` takes it. Raises ConfigError."""
    return _validated(Neighbor, data, "neighbor")


def parse_rules(data: list[object]) -> tuple[Rule, ...]:
    """The terms of a policy, as the control method ``policy.set`` takes them. Raises ConfigError."""
    return tuple(_validated(Rule, item, f"rule {number}") for number, item in enumerate(data, 1))


def load_config(path: Path) -> SpeakerConfig:
    """Reads and checks ``path``. Raises ConfigError, which names the file."""
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: no JSON: {error.msg}") from None
    try:
        return parse_config(data)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def schema() -> dict[str, Any]:
    """JSON schema of the file, with every field's description."""
    return SpeakerConfig.model_json_schema()


def masked(config: SpeakerConfig) -> dict[str, Any]:
    """The configuration as JSON values, keys shown as stars."""
    return config.model_dump(mode="json", by_alias=True)


def _validated(model: type[_M], data: object, what: str) -> _M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [
            f"{_where(data, what, e['loc'])}: {_reason(e)}"
            for e in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("\n".join(lines)) from None


def _where(data: object, what: str, path: tuple[int | str, ...]) -> str:
    """The place of an error in words: list items by their name or prefix, else by number from 1."""
    words = [what] if not path else []
    for step in path:
        data = _item(data, step)
        if isinstance(step, int):
            title = data.get("name") or data.get("prefix") if isinstance(data, dict) else data
            words[-1:] = [f"{words[-1].removesuffix('s') if words else what} {title or step + 1}"]
        else:
            words.append(step)
    return ", ".join(words)


def _item(data: object, step: int | str) -> object:
    if isinstance(data, dict):
        return data.get(step)
    if isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
        return data[step]
    return None


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field; `vbrlab-bgpd --schema` lists all"
    if error["type"] == "missing":
        return "is required and not given; add it"
    return error["msg"].removeprefix("Value error, ")
