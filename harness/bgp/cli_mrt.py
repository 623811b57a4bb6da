"""The commands of ``vbrlab-bgp`` that work on MRT files: print one, or announce one into a speaker. Neither asks a control socket."""

from __future__ import annotations

import asyncio
import signal
import time
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from harness.bgp import mrt, mrt_feed, mrt_text
from harness.bgp.prefixes import Family
from harness.control import ControlError


def print_file(
    file: Annotated[Path, typer.Argument(help="An MRT file, plain, gzip or bzip2.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many lines.")] = None,
) -> None:
    """Print an MRT file (RFC 6396), a line for each route, in the columns of bgpdump -m. Asks no speaker."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may have had enough
    try:
        with mrt.opened(file) as stream:
            for line in islice(mrt_text.lines(mrt.read(stream)), limit):
                typer.echo(line)
    except (OSError, EOFError, mrt.MrtError) as error:
        raise ControlError(
            f"{file}: {error.strerror if isinstance(error, OSError) and error.strerror else error}"
        ) from None


def feed(
    file: Annotated[Path, typer.Argument(help="An MRT file, updates or a table.")],
    to: Annotated[str, typer.Option("--to", help="Address of the speaker to feed.")],
    asn: Annotated[int, typer.Option(help="AS number to speak as.")],
    peer_asn: Annotated[int, typer.Option(help="AS number of the speaker.")],
    router_id: Annotated[str, typer.Option(help="BGP Identifier to speak with.")] = "192.0.2.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 179,
    local_address: Annotated[str | None, typer.Option(help="Source address.")] = None,
    next_hop: Annotated[str | None, typer.Option(help="Next hop of the routes; default: the source address.")] = None,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Announce IPv6 routes too.")] = False,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Send the file's octets: own AS and next hop are not put in.")
    ] = False,
    leave: Annotated[bool, typer.Option("--leave", help="End the session when all is sent; default: stay.")] = False,
) -> None:
    """Be a neighbour that announces what an MRT file has. Ctrl-C ends it."""
    families = frozenset(Family) if ipv6 else frozenset({Family.IPV4_UNICAST})
    try:
        identifier = IPv4Address(router_id)
    except ValueError:
        raise typer.BadParameter(f"{router_id!r} is no IPv4 address", param_hint="--router-id") from None
    options = mrt_feed.FeedOptions(to, asn, peer_asn, identifier, port, local_address, next_hop, as_is, families)
    try:
        asyncio.run(_feed(file, options, leave))
    except (OSError, EOFError, mrt.MrtError) as error:
        raise ControlError(f"{file}: {error}") from None
    except mrt_feed.FeedError as error:
        raise ControlError(str(error)) from None


async def _feed(file: Path, options: mrt_feed.FeedOptions, leave: bool) -> None:
    feeder = mrt_feed.Feeder(options)
    with mrt.opened(file) as stream:
        session = await feeder.connect()
        began = time.monotonic()
        count = await feeder.send(mrt.read(stream))
    typer.echo(f"{count} UPDATEs to AS {session.peer_asn} in {time.monotonic() - began:.3f} s")
    if leave:
        await feeder.leave()
    else:
        typer.echo(f"the session ended: {await feeder.stay()}")
