"""The sequence numbers of signed sessions, in memory that the speaker shares with its BFD process, so that they outlive the process.

A number is written before its packet leaves and before a packet that was accepted is acted on. Whenever the process dies, no number is
used twice, and no packet counts twice.
"""

from __future__ import annotations

import mmap
from array import array

from harness.bfd.authentication import UNKNOWN

PLACES = 4096
"""Signed sessions of one speaker whose numbers outlive the process; any more begin anew with it."""
_WORDS = 2


class Ledger:
    """Places for the two numbers of a session (see :class:`harness.bfd.authentication.Authenticator`). A fork shares them."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, PLACES * _WORDS * array("q").itemsize)).cast("q")
        self._free = list(reversed(range(PLACES)))

    def take(self) -> int | None:
        """A free place with no numbers in it; None where none is left."""
        if not self._free:
            return None
        place = self._free.pop()
        numbers = self.numbers(place)
        numbers[0] = numbers[1] = UNKNOWN
        return place

    def give_back(self, place: int) -> None:
        self._free.append(place)

    def numbers(self, place: int) -> memoryview[int]:
        """The two words of a place."""
        return self._words[place * _WORDS : (place + 1) * _WORDS]
