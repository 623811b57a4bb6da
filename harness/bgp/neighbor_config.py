"""The configuration of a neighbour and of its policies. :mod:`harness.bgp.config` has the speaker around them, and reads the file."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from harness.bgp.as_path import AS_TRANS
from harness.bgp.attributes import community, large_community
from harness.bgp.bfd_options import BfdOptions
from harness.bgp.neighbor_options import GracefulRestartOptions, MaximumPrefixes, Options
from harness.bgp.prefix_list import PrefixRange

TCP_MD5_KEY_MAX = 80
FamilyName = Literal["ipv4", "ipv6"]


class ConfigError(ValueError):
    """The configuration breaks a rule; one line for each breach."""


def real_asn(value: int) -> int:
    if value == AS_TRANS:
        raise ValueError(f"ASN {AS_TRANS} is AS_TRANS, which stands for 4-octet ASNs (RFC 6793); use a real one")
    return value


Asn = Annotated[int, Field(ge=1, le=4294967295)]
HoldTime = Annotated[int, Field(ge=0, le=65535)]


def usable_hold_time(value: int | None) -> int | None:
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
    send_hold_time: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="seconds that the neighbour's TCP may acknowledge nothing of what is sent to it (RFC 9687); 0: for ever; "
        "default: 480, or twice the hold time where that is more",
    )
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
    idle_hold_time: float | None = Field(
        None, gt=0, le=3600, description="how long the first time; default: the speaker's"
    )
    idle_hold_time_max: float = Field(60, gt=0, le=86400, description="and how long at most")
    four_octet_asn: bool = Field(
        True,
        description="offer 4-octet AS numbers (RFC 6793); false: speak as a 2-octet speaker, with AS_TRANS and AS4_PATH",
    )
    enforce_first_as: bool = Field(
        True, description="eBGP: refuse routes whose first ASN is not the neighbour's (RFC 4271 6.3)"
    )
    allow_as_in: int = Field(0, ge=0, le=10, description="how often the own ASN may stand in a received AS path")
    advertisement_interval: float = Field(
        0.0,
        ge=0,
        le=600,
        description="seconds that news waits after the last news was told (RFC 4271 9.2.1.1: MinRouteAdvertisementIntervalTimer); "
        "0: it goes at once",
    )
    maximum_prefixes: MaximumPrefixes | None = Field(
        None, description="most routes taken from the neighbour, and what happens beyond; default: no limit"
    )
    graceful_restart: GracefulRestartOptions | None = Field(
        None, description="keep routes over a restart of either side; default: they go with the session"
    )
    import_: tuple[Rule, ...] = Field((), alias="import", description="policy for received routes")
    export: tuple[Rule, ...] = Field((), description="policy for announced routes")
    strict: bool = Field(False, description="policies end with deny instead of permit (RFC 8212)")

    _check_asn = field_validator("remote_asn")(real_asn)
    _check_hold = field_validator("hold_time")(usable_hold_time)

    @field_validator("local_asn")
    @classmethod
    def _check_local_asn(cls, value: int | None) -> int | None:
        return None if value is None else real_asn(value)

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


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises ValueError that names the text."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'{text!r} is no IP address; write it like "10.0.0.1" or "fd00::1"') from None


def check_key(key: str) -> None:
    """The kernel's limits on a TCP MD5 key. The text of the error does not repeat the key."""
    if not 1 <= len(key.encode()) <= TCP_MD5_KEY_MAX:
        raise ValueError(f"the key has {len(key.encode())} octets; TCP MD5 takes 1 to {TCP_MD5_KEY_MAX}")
