"""The daemon's shell, where what arrives meets neighbours that come and go."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from harness.bgp import signals
from harness.bgp.config import parse_config
from harness.bgp.daemon import LoopShell
from harness.control import EventLog


@pytest.mark.spec("BGP-1")
async def test_a_connection_of_a_neighbour_that_was_deleted_meanwhile_is_closed() -> None:
    """Between taking a connection and telling of it the loop does other things, a deletion among them."""
    shell = LoopShell(asyncio.get_running_loop(), parse_config({"asn": 65001}), EventLog())
    stranger: Any = SimpleNamespace(adjacencies={})
    shell.speaker = stranger
    closed: list[tuple[str, int]] = []
    transport: Any = SimpleNamespace(close=lambda name, conn: closed.append((name, conn)))
    shell.transport = transport
    shell._feed("gone", signals.Connected(7, False, "10.0.0.1", "10.0.0.2"))
    shell._feed("gone", signals.Received(7, b"late"))
    assert closed == [("gone", 7)]
