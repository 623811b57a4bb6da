"""The part of the configuration that says who may look on: BMP stations, MRT dumps, metrics. All are off unless configured."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class BmpCollector(_Options):
    """A monitoring station that the speaker connects to and tells of its sessions and routes (RFC 7854)."""

    address: str = Field(description="its IP address")
    port: int = Field(11019, ge=1, le=65535, description="its TCP port")
    pre_policy: bool = Field(True, description="tell what neighbours sent (Adj-RIB-In before the import policy)")
    post_policy: bool = Field(False, description="tell what the import policy left of it")
    adj_rib_out: bool = Field(False, description="tell what neighbours were told (RFC 8671, after the export policy)")
    loc_rib: bool = Field(False, description="tell what was chosen: the best path of each prefix (Loc-RIB, RFC 9069)")
    statistics_interval: float = Field(60.0, ge=0, description="seconds between Statistics Reports; 0: none")
    retry: float = Field(5.0, gt=0, description="seconds after a failure until the next connection; doubles up to 60")
    patience: float = Field(
        30.0, gt=0, description="seconds that the station may refuse to read before the connection is given up"
    )

    @field_validator("address")
    @classmethod
    def _address(cls, text: str) -> str:
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise ValueError(f'{text!r} is no IP address; write it like "192.0.2.1"') from None

    @property
    def name(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class MrtOptions(_Options):
    """Dumps of what sessions say and of the table, in MRT form (RFC 6396, RFC 8050)."""

    updates: Path | None = Field(None, description="file that messages and state changes are appended to")
    sent: bool = Field(False, description="with updates: also the messages that this speaker sent")
    table: Path | None = Field(None, description="file that holds the table of the last interval")
    table_interval: float = Field(7200.0, gt=0, description="seconds between two tables; each replaces the last")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.updates is None and self.table is None:
            raise ValueError("neither updates nor table names a file; name one, or leave mrt out")
        return self


class MetricsOptions(_Options):
    """Figures for Prometheus over HTTP: on a Unix socket, or on a loopback address; never where neighbours are."""

    socket: Path | None = Field(None, description="Unix socket; default: the control socket's name with .metrics")
    address: str | None = Field(None, description="loopback address to listen on instead")
    port: int = Field(9179, ge=1, le=65535, description="with address: TCP port")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.address is None:
            return self
        if self.socket is not None:
            raise ValueError("both socket and address are given; keep one")
        try:
            loopback = ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            raise ValueError(f'{self.address!r} is no IP address; write it like "127.0.0.1"') from None
        if not loopback:
            raise ValueError(f"{self.address} is no loopback address; metrics are not served to others, use 127.0.0.1")
        return self
