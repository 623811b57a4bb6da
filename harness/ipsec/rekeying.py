"""Rekeys that a user asks for, one after the other, however fast they are asked for.

A rekey is over when the DELETE of the old SA is answered, which is after its event. One that begins before that meets a peer that still
has, or no longer has, the SA it names: the peer answers CHILD_SA_NOT_FOUND (RFC 7296 2.25), the SA is closed and made anew, and what is
sent in between is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence

from harness.ipsec.accounts import IkeSa
from harness.ipsec.vici_session import Answer, ViciError

_WITHIN = 5.0  # seconds for a rekey under way to be concluded and the next to be accepted
_CONCLUDED = re.compile(r"CHILD_SA closed|IKE_SA deleted")  # charon's log: the exchange that ends a rekey is over
_LOOK_AGAIN = 0.02  # seconds from that line until the SA has left charon's lists, of which nothing tells

Listing = Callable[[], Awaitable[Sequence[IkeSa]]]
Request = Callable[[str], Awaitable[Answer]]


class Rekeying:
    """Asks for the rekeys of one tunnel.

    ``listing`` gives the IKE_SAs as charon has them now; ``carries`` says whether a CHILD_SA is known to be up.
    """

    def __init__(self, tunnel: str, listing: Listing, carries: Callable[[], bool]) -> None:
        self._tunnel = tunnel
        self._listing = listing
        self._carries = carries
        self._concluded = asyncio.Event()

    def heard(self, line: str) -> None:
        """Takes a line of charon's log: one of them concludes a rekey."""
        if _CONCLUDED.search(line):
            self._concluded.set()

    async def ask(self, request: Request, what: str) -> Answer:
        """charon's answer to the rekey of ``what``, "child" or "ike", begun as soon as no other is under way.

        Raises ValueError for another ``what`` and when an SA is still being replaced after five seconds; ViciError when there is none.
        """
        if what not in ("child", "ike"):
            raise ValueError(f'rekey {what!r}: give "child" or "ike"')
        overlooked: ViciError | None = None
        try:
            async with asyncio.timeout(_WITHIN):
                while True:
                    self._concluded.clear()
                    if not any(sa.changing for sa in await self._listing()):
                        try:
                            return await request(what)
                        except ViciError as error:
                            # charon overlooks an SA when it walks its list while an IKE_SA hands its children to the next.
                            if "no matching SAs" not in str(error) or not self._carries():
                                raise
                            overlooked = error
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_AGAIN):
                            await self._concluded.wait()
        except TimeoutError:
            under_way = ValueError(f"tunnel {self._tunnel}: a rekey is under way; try again when it is over")
            raise overlooked or under_way from None
