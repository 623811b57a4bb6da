"""When a tunnel is tried again, and what the console says meanwhile; no charon, no root."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.ipsec.negotiator import Negotiator
from harness.ipsec.reasons import Reason, reason_in
from harness.ipsec.settings import Retry
from harness.ipsec.status import State, Status

WRONG_KEY = reason_in("12[IKE] received AUTHENTICATION_FAILED notify error")
NO_ESP = reason_in("11[IKE] received NO_PROPOSAL_CHOSEN notify, no CHILD_SA built")
assert WRONG_KEY is not None
assert NO_ESP is not None


class Peer:
    """Answers attempts with what was put down for them, and waits when nothing was."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Reason | None] = asyncio.Queue()
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.failures: list[Reason] = []
        self.failed = asyncio.Event()
        self.count = 0

    def note(self, reason: Reason) -> None:
        self.failures.append(reason)
        self.failed.set()

    async def attempt(self) -> Reason | None:
        self.count += 1
        self.begun.put_nowait(self.count)
        return await self.answers.get()


@contextlib.asynccontextmanager
async def negotiating(retry: Retry) -> AsyncIterator[tuple[Negotiator, Peer]]:
    peer = Peer()
    negotiator = Negotiator(retry, peer.attempt, peer.note)
    task = asyncio.create_task(negotiator.run())
    try:
        async with asyncio.timeout(5.0):
            yield negotiator, peer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not negotiator.attempting


QUICK, NEVER = Retry(first=0.001, longest=0.002), Retry(first=1000.0)


@pytest.mark.spec("ECMP-30")
async def test_a_refused_tunnel_is_tried_without_limit() -> None:
    async with negotiating(QUICK) as (negotiator, peer):
        negotiator.want(persistent=True)
        for number in range(1, 31):
            assert await peer.begun.get() == number
            peer.answers.put_nowait(WRONG_KEY)
        assert await peer.begun.get() == 31
        peer.answers.put_nowait(None)
        await asyncio.sleep(0.01)
        assert (negotiator.attempts, len(peer.failures), negotiator.attempting) == (31, 30, False)


@pytest.mark.spec("ECMP-30")
async def test_a_lost_tunnel_is_wanted_again_also_while_its_answer_is_on_the_way() -> None:
    async with negotiating(NEVER) as (negotiator, peer):
        negotiator.want(persistent=True)
        await peer.begun.get()
        peer.answers.put_nowait(None)
        negotiator.lost()
        assert await peer.begun.get() == 2
        peer.answers.put_nowait(None)
        negotiator.lost()
        assert await peer.begun.get() == 3


async def test_a_call_shortens_the_wait() -> None:
    async with negotiating(NEVER) as (negotiator, peer):
        negotiator.want(persistent=True)
        await peer.begun.get()
        peer.answers.put_nowait(WRONG_KEY)
        await peer.failed.wait()
        assert negotiator.next_attempt is not None
        negotiator.want(persistent=True)
        assert await peer.begun.get() == 2
        assert negotiator.next_attempt is None


async def test_an_end_that_only_answers_tries_once_when_told() -> None:
    async with negotiating(QUICK) as (negotiator, peer):
        negotiator.want(persistent=False)
        await peer.begun.get()
        peer.answers.put_nowait(WRONG_KEY)
        negotiator.lost()
        await asyncio.sleep(0.01)
        assert (peer.count, peer.failures) == (1, [WRONG_KEY])


async def test_one_that_is_not_wanted_any_more_is_left_alone() -> None:
    async with negotiating(QUICK) as (negotiator, peer):
        negotiator.want(persistent=True)
        await peer.begun.get()
        negotiator.want_no_more()
        peer.answers.put_nowait(WRONG_KEY)
        negotiator.lost()
        await asyncio.sleep(0.01)
        assert peer.count == 1


def told() -> tuple[Status, list[tuple[str, Any]]]:
    events: list[tuple[str, Any]] = []

    def emit(kind: str, **fields: Any) -> None:
        events.append((kind, fields.get("state") or (fields["attempt"], fields["code"])))

    return Status(emit), events


def test_each_change_is_told_once_and_each_attempt_s_failure() -> None:
    status, events = told()
    assert WRONG_KEY is not None
    status.become(State.NEGOTIATING)
    status.become(State.NEGOTIATING)
    status.failed(WRONG_KEY, attempt=1, up=False)
    status.failed(WRONG_KEY, attempt=1, up=False)
    since = status.since
    status.failed(WRONG_KEY, attempt=2, up=False)
    assert status.since == since
    status.become(State.UP)
    status.failed(WRONG_KEY, attempt=2, up=True)
    assert events == [
        ("status", "negotiating"),
        ("failure", (1, "AUTHENTICATION_FAILED")),
        ("status", "failed"),
        ("failure", (2, "AUTHENTICATION_FAILED")),
        ("status", "up"),
        ("failure", (2, "AUTHENTICATION_FAILED")),
    ]
    assert status.state is State.UP


@pytest.mark.parametrize(
    ("state", "reason", "established", "word"),
    [
        (State.UP, None, True, "ipsec_sa_established"),
        (State.FAILED, WRONG_KEY, False, "ike_sa_not_established"),
        (State.FAILED, NO_ESP, True, "ipsec_sa_not_established"),
        (State.NEGOTIATING, None, True, "ike_sa_established"),
        (State.WAITING, None, False, "ike_sa_not_established"),
    ],
)
def test_console_words(state: State, reason: Reason | None, established: bool, word: str) -> None:
    status, _ = told()
    status.become(state, reason)
    assert status.console(ike_established=established) == word
