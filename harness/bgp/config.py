"""The speaker's configuration: one JSON file, checked whole before anything runs.

Every field is documented here and printed by ``vbrlab-bgpd --schema``. A wrong file raises :class:`ConfigError`, which names the
object, the rule and the remedy, and never repeats a key. Times are seconds; ASNs are plain integers (RFC 6793: four octets).

This module reads no socket and no kernel state: what it accepts may still fail to bind or to resolve.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from harness.bgp.monitoring_options import BmpCollector, MetricsOptions, MrtOptions
from harness.bgp.neighbor_config import (
    Asn,
    ConfigError,
    HoldTime,
    Neighbor,
    Rule,
    parse_address,
    real_asn,
    usable_hold_time,
)
from harness.bgp.neighbor_options import Options

__all__ = [
    "ConfigError",
    "FibConfig",
    "Neighbor",
    "Network",
    "NexthopGroups",
    "Rule",
    "SpeakerConfig",
    "load_config",
    "masked",
    "parse_config",
    "parse_neighbor",
    "parse_network",
    "parse_rules",
    "schema",
]

_M = TypeVar("_M", bound=Options)


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
    idle_hold_time: float = Field(
        1, gt=0, le=3600, description="how long a session stays in Idle after its first error (RFC 4271 8.1.1)"
    )
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

    _check_asn = field_validator("asn")(real_asn)
    _check_hold = field_validator("hold_time")(usable_hold_time)

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
