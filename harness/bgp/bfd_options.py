"""The BFD part of a neighbour's configuration (RFC 5880, VBR-12). Times are milliseconds here, as everybody writes them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

KEY_MAX = 20


class BfdAuthentication(BaseModel):
    """Keyed SHA1 (RFC 5880 4.4)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["keyed-sha1", "meticulous-keyed-sha1"] = Field(
        "meticulous-keyed-sha1", description="meticulous: each packet has a sequence number of its own"
    )
    key_id: int = Field(1, ge=0, le=255, description="which key, for the peer")
    key: SecretStr = Field(description="1 to 20 octets")

    @field_validator("key")
    @classmethod
    def _key(cls, key: SecretStr) -> SecretStr:
        octets = len(key.get_secret_value().encode())
        if not 1 <= octets <= KEY_MAX:
            raise ValueError(f"a BFD key has 1 to {KEY_MAX} octets (RFC 5880 4.4), this one has {octets}")
        return key


class BfdOptions(BaseModel):
    """BFD beside the session: when it goes from Up to Down, the session ends at once with Cease/10 (RFC 9384)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    hop_count: int = Field(
        255,
        ge=1,
        le=255,
        description="most devices on the way: 1 is a direct line (UDP 3784), more is multihop (UDP 4784)",
    )
    interval_ms: int = Field(300, ge=10, le=60_000, description="milliseconds between packets, both ways")
    multiplier: int = Field(3, ge=1, le=255, description="packets missed before the peer is called gone")
    auth: BfdAuthentication | None = Field(None, description="authentication; default: none")
