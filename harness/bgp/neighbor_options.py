"""Groups of options of a neighbour's configuration. :mod:`harness.bgp.config` has the rest and the errors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """What all objects of the configuration share: no unknown fields, no change, no values in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)


class MaximumPrefixes(Options):
    """Most routes taken from the neighbour in each address family (RFC 4271 6.7). Routes that are refused anyway do not count."""

    limit: int = Field(ge=1, le=4294967295, description="how many")
    action: Literal["warn", "drop", "teardown"] = Field(
        "teardown",
        description="over the limit: warn: say so (event maximum-prefixes); drop: do not use the routes over it until there is room; "
        "teardown: end the session with Cease/1 (RFC 4486)",
    )
    restart: float | None = Field(
        None,
        gt=0,
        le=86400 * 7,
        description="teardown: begin again after so many seconds; default: stay down until `neighbor start`",
    )


class GracefulRestartOptions(Options):
    """Graceful restart with the neighbour (RFC 4724, RFC 8538): routes outlive a lost session while forwarding goes on."""

    mode: Literal["full", "helper"] = Field(
        "full",
        description="full: the neighbour shall keep our routes while we restart, and we keep its; helper: only the latter",
    )
    restart_time: int = Field(
        120, ge=1, le=4095, description="seconds that the neighbour keeps our routes when the session is lost"
    )
    stale_time: float = Field(
        360,
        gt=0,
        le=86400,
        description="most seconds that its routes stay stale once its session is back (no End-of-RIB)",
    )
    notification: bool = Field(
        True,
        description="offer the N bit (RFC 8538): errors and an expired hold timer keep the routes too, a hard reset (Cease/9) does not",
    )
