"""The daemon of one tunnel end: runs charon, keeps the tunnel negotiated, moves the line, tells what happens.

It lives in its node's network namespace (whoever starts it has put it there), holds one charon with one connection, and
serves a control socket (``harness.control``). Entry: :func:`main` with the arguments of ``Settings.hand_over``.

What it owns and charon does not: when to negotiate again (ECMP-30: charon takes NO_PROPOSAL_CHOSEN and AUTHENTICATION_FAILED
as final), the tunnel interface's line protocol, and counters that go on over rekeys.

Methods: ``show.status``, ``show.sas``, ``counters``, ``log``, ``initiate``, ``terminate``, ``rekey``, ``restart``, ``stop``.
Events (each with ``tunnel``): ``status``, ``ike``, ``child``, ``line``, ``charon``, ``failure``, ``traffic``, ``duplicate``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from harness.control import ControlServer, EventLog
from harness.ipsec import strongswan
from harness.ipsec.accounts import Accounts, ChildSa, IkeSa, child_sa, ike_sas
from harness.ipsec.charon import Charon, CharonError
from harness.ipsec.doorway import Doorway
from harness.ipsec.line import Line
from harness.ipsec.negotiator import Negotiator
from harness.ipsec.reasons import Reason, charon_ended, interface_refused, reason_in, unexplained
from harness.ipsec.rekeying import Rekeying
from harness.ipsec.settings import Settings
from harness.ipsec.status import State, Status
from harness.ipsec.strongswan import DataPlane
from harness.ipsec.trap import Trap
from harness.ipsec.vici_session import Answer, ViciError, ViciSession
from harness.net.netlink import NetlinkError

log = logging.getLogger(__name__)

_EVENTS = ("ike-updown", "child-updown", "ike-rekey", "child-rekey")
_OLD_SA_LINGERS = 4.0  # of the 5 s that charon keeps a rekeyed SA for late packets, which are counted then
_TERMINATE_WITHIN = 1.0  # seconds for the peer to answer a DELETE; then the SA is dropped without it
_LOOK_AGAIN = 0.02  # seconds until SAs that are being replaced may be settled, of which nothing tells


class Agent:
    """One tunnel end. :meth:`run` is its life."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tunnel = settings.tunnel
        self.events = EventLog()
        self.accounts = Accounts()
        self._line = Line(settings.tunnel, settings.plane)
        self._charon = Charon(settings.directory, self._log_line, self._charon_gone)
        self._vici: ViciSession | None = None
        self._status = Status(self._emit)
        self._negotiator = Negotiator(settings.retry, self._attempt, self._attempt_failed)
        self._negotiator.persistent = settings.tunnel.initiate == "start" and settings.begin
        self._trap: Trap | None = None
        self._doorway: Doorway | Trap
        if settings.plane is DataPlane.XFRM and settings.tunnel.initiate == "traffic":
            self._doorway = self._trap = Trap(settings.tunnel.name, self._line, self._trapped)
        else:
            self._doorway = Doorway(self._line, self._entered)
        self._held = False  # down by the method terminate
        self._proving = False  # of two keys only the peer's is known to charon yet
        self._carrying: set[int] = set()  # ids of the CHILD_SAs that carry traffic
        self._rekeys = 0
        self._heard: Reason | None = None
        self._heard_at = 0.0
        self._heard_events = 0
        self._look = asyncio.Event()
        self._rekeying = Rekeying(self.tunnel.name, self._listed, lambda: bool(self._carrying))
        self._finished = asyncio.Event()
        self._life = asyncio.Lock()  # held while charon is started or ended
        self._stopping = False
        self._ready_at = 0.0
        self._undertaker: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the method ``stop`` or SIGTERM. Raises ControlError when another daemon holds the control socket."""
        methods: dict[str, Callable[..., Any]] = {
            "show.status": self.listed_status,
            "show.sas": self.show_sas,
            "counters": self.counters,
            "log": self.log,
            "initiate": self.initiate,
            "terminate": self.terminate,
            "rekey": self.rekey,
            "restart": self.restart,
            "stop": self.stop,
        }
        server = ControlServer(self.settings.socket, methods, self.events)
        await server.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._finished.set)
        try:
            async with self._life:
                await self._start_charon()
            await self._finished.wait()
        finally:
            async with self._life:
                await self._end_charon()
            self._become(State.STOPPED)
            self._line.close()
            self._charon.close()
            await server.close()

    async def _start_charon(self) -> None:
        """charon up, connection loaded, interface there, line down; then it negotiates if it is to. A failure is a status."""
        self._become(State.STARTING)
        self._heard = None
        begun = time.monotonic()
        try:
            self._line.prepare()
            await self._charon.start(
                strongswan.daemon_configuration(
                    self.tunnel, self.settings.plane, self._charon.vici_socket, self.settings.log_level
                )
            )
            self._line.adopt()
            await self._load()
        except (CharonError, ViciError, OSError) as error:
            reason = self._heard or unexplained(str(error))
            await self._end_charon()
            self._fail(dataclasses.replace(reason, text=str(error)))
            return
        self._emit("line", state="down", ifindex=self._line.ifindex, interface=self.tunnel.interface)
        self._become(self._resting())
        self._ready_at = time.monotonic()
        self._emit("charon", state="ready", pid=self._charon.pid, seconds=self._ready_at - begun)
        self._task(self._follow_sas())
        self._task(self._negotiator.run())
        if self._negotiator.persistent:
            self._negotiator.want(persistent=True)
        self._await_traffic()

    async def _load(self) -> None:
        self._vici = await ViciSession.connect(self._charon.vici_socket, self._vici_event)
        await self._vici.register(*_EVENTS)
        self._proving = self.tunnel.peer_key not in (None, self.tunnel.key)
        if self._proving:
            await self._vici.request("load-shared", strongswan.peer_shared_key(self.tunnel, alone=True))
        elif self.tunnel.key:
            await self._vici.request("load-shared", strongswan.shared_key(self.tunnel))
        await self._vici.request("load-conn", strongswan.connection(self.tunnel))
        if self._trap is not None and not self._held:
            await self._trap.install(self._vici)

    async def _sign_with_own_key(self) -> None:
        """The peer has proved its key; now this side's own has to be accepted by the peer, in a negotiation of its own.

        charon cannot be told to take one key for one direction: with both at once it would take either for the peer's proof.
        """
        assert self._vici is not None
        await self._vici.request("load-shared", strongswan.peer_shared_key(self.tunnel, alone=False))
        await self._vici.request("load-shared", strongswan.shared_key(self.tunnel))
        await self._vici.request("terminate", {"ike": self.tunnel.name, "force": "yes", "timeout": "500"})

    async def _end_charon(self) -> None:
        self._stopping = True
        self._doorway.close()
        await self._cancel_tasks()
        await self._charon.stop()
        if self._vici is not None:
            self._vici.close()
            self._vici = None
        self._stopping = False

    def _charon_gone(self, status: int) -> None:
        """Called by the process's own end, asked for or not."""
        if self._vici is None:
            return
        reason = charon_ended(status)
        self._emit("charon", state="ended", status=status, asked=self._stopping)
        had_line = self._line.up
        ifindex = self._line.ifindex
        self._line.lost()
        self._carrying.clear()
        self.accounts.ended()
        if had_line:
            self._emit(
                "line", state="down", ifindex=ifindex, interface=self.tunnel.interface, reason=reason.as_fields()
            )
        if not self._stopping:
            self._fail(reason)
            self._undertaker = asyncio.create_task(self._after_death())

    async def _after_death(self) -> None:
        async with self._life:
            if self._charon.pid is not None:
                return  # the method restart was quicker
            await self._end_charon()
            if self.settings.restart and not self._finished.is_set():
                lived = time.monotonic() - self._ready_at
                await asyncio.sleep(
                    max(0.0, self.settings.retry.first - lived)
                )  # one that dies at once is no busy loop
                await self._start_charon()

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: %s ended", self.tunnel.name, task.get_coro(), exc_info=error)

    async def _cancel_tasks(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what charon tells ----------------------------------------------------------------------------------------------

    def _log_line(self, at: float, line: str) -> None:
        self._rekeying.heard(line)
        if self._trap is not None:
            self._trap.heard(line)
        reason = reason_in(line)
        # What ends others while a tunnel is negotiated is no reason for anything; one that stands may end before its attempt has said so.
        if reason is None or (self._negotiator.attempting and not self._carrying and not reason.failure):
            return
        # No answer because nothing could be sent: the route is the reason, as long as it is of the same retransmissions.
        span = strongswan.patience_with_peer(self.tunnel) + 1.0
        unsent = self._heard is not None and self._heard.code == "NO_ROUTE" and at - self._heard_at <= span
        if reason.code == "PEER_UNREACHABLE" and unsent:
            return
        self._heard, self._heard_at = reason, at
        if reason.failure:
            self._fail(reason)

    def _vici_event(self, name: str, content: Answer) -> None:
        """Moves the line in the order of the events: a tunnel that is lost and back within a millisecond was lost."""
        self._charon.drain()
        self._heard_events += 1
        up = content.get("up") == "yes"
        if name.endswith("rekey"):
            change = "rekeyed"
        else:
            change = "up" if up else "down"
        for values in (value for value in content.values() if isinstance(value, dict)):
            if name == "ike-rekey":
                self._ike_event(change, values.get("new", values))
                continue
            if name == "ike-updown":
                self._ike_event(change, values)
                continue
            for child in values.get("child-sas", {}).values():
                self._child_event(change, child)
        self._settle()
        self._look.set()

    def _ike_event(self, change: str, values: Answer) -> None:
        fields: dict[str, Any] = {
            "change": change,
            "id": int(values.get("uniqueid", 0)),
            "initiator_spi": values.get("initiator-spi"),
            "responder_spi": values.get("responder-spi"),
        }
        if change == "down" and self._heard is not None:
            fields["reason"] = self._heard.as_fields()
        self._emit("ike", **fields)

    def _child_event(self, change: str, values: Answer) -> None:
        if "new" in values:
            old, new = child_sa(values["old"]), child_sa(values["new"])
            self.accounts.noted(old)
            self._carrying.discard(old.id)
            self._carrying.add(new.id)
            self._rekeys += 1
            asyncio.get_running_loop().call_later(_OLD_SA_LINGERS, self._look.set)
            self._emit("child", change=change, id=new.id, spi_in=new.spi_in, spi_out=new.spi_out, old_spi_in=old.spi_in)
            return
        child = child_sa(values)
        self.accounts.noted(child)
        if change == "up":
            self._carrying.add(child.id)
            self._hold_no_more()  # ended here, and the peer has come again
            if self._proving:
                self._proving = False
                self._task(self._sign_with_own_key())
        else:
            self._carrying.discard(child.id)
        fields: dict[str, Any] = {
            "change": change,
            "id": child.id,
            "spi_in": child.spi_in,
            "spi_out": child.spi_out,
        }
        if change == "down" and self._heard is not None:
            fields["reason"] = self._heard.as_fields()
        self._emit("child", **fields)

    async def _follow_sas(self) -> None:
        """After events: takes the listing, for the counters, and for SAs that came or went without an event."""
        while True:
            await self._look.wait()
            self._look.clear()
            heard = self._heard_events
            try:
                listed = await self._list()
            except ViciError:
                return  # charon is going: its end moves the line
            self._charon.drain()  # the reason may be written, and the SA gone, before its event is here
            if heard == self._heard_events:
                # The listing may be ahead of the event of an SA that goes: the log has its reason by now.
                self._charon.drain()
                self._carrying = {child.id for child in listed}
                self._settle()
            await self._end_duplicates()

    def _settle(self) -> None:
        """Line and state as the SAs have them; asks for a new tunnel when the last one went."""
        if self._carrying:
            self._doorway.close()
            self._attempt_of_trap_concluded()
            self._move_line(True)
            self._become(State.UP)
        elif self._line.up or self._status.state is State.UP:
            reason = self._heard
            self._move_line(False, reason)
            failed = reason is not None and reason.failure
            self._become(State.FAILED if failed else self._resting(), reason if failed else None)
            self._negotiator.lost()
            self._await_traffic()
        elif self._held:
            self._become(State.DOWN)

    async def _end_duplicates(self) -> None:
        """Both ends began at once: two IKE_SAs stand, each with a child. The end of the higher address ends all but one."""
        if self._vici is None or int(ip_address(self.tunnel.local)) < int(ip_address(self.tunnel.remote)):
            return
        standing = [sa for sa in self.accounts.sas if sa.state == "ESTABLISHED" and sa.carrying]
        if len(standing) < 2:
            return
        if self._negotiator.attempting or any(sa.changing for sa in self.accounts.sas):
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look.set)
            return
        kept = next((sa for sa in standing if sa.initiator), standing[0])
        for sa in standing:
            if sa is not kept:
                self._emit("duplicate", id=sa.id, kept=kept.id, initiator=sa.initiator)
                with contextlib.suppress(ViciError):
                    await self._vici.request("terminate", {"ike-id": str(sa.id), "timeout": "-1"})

    async def _list(self) -> list[ChildSa]:
        assert self._vici is not None
        self.accounts.listed(ike_sas(await self._vici.stream("list-sas", "list-sa")))
        return self.accounts.carrying()

    async def _listed(self) -> Sequence[IkeSa]:
        await self._list()
        return self.accounts.sas

    async def _list_if_running(self) -> None:
        """With no charon, or one on its way out, what was known last stands."""
        if self._vici is not None:
            with contextlib.suppress(ViciError):
                await self._list()

    def _move_line(self, up: bool, reason: Reason | None = None) -> None:
        try:
            changed = self._line.set(up)
        except NetlinkError as error:
            self._fail(interface_refused(str(error)))
            return
        if changed:
            fields = {} if reason is None else {"reason": reason.as_fields()}
            self._emit(
                "line",
                state="up" if up else "down",
                ifindex=self._line.ifindex,
                interface=self.tunnel.interface,
                **fields,
            )

    # -- negotiating ----------------------------------------------------------------------------------------------------

    async def _attempt(self) -> Reason | None:
        """One negotiation, to its end. None when the tunnel is up."""
        if self._carrying:
            return None
        self._heard = None
        if self._status.state is not State.FAILED:
            self._become(State.NEGOTIATING)
        session: ViciSession | None = None
        try:
            session = await ViciSession.connect(self._charon.vici_socket)
            names = {"ike": self.tunnel.name, "child": self.tunnel.name}
            await session.request("initiate", names, within=None)
        except ViciError as error:
            self._charon.drain()
            return self._heard or unexplained(str(error))
        finally:
            if session is not None:
                session.close()
        return None

    def _attempt_failed(self, reason: Reason) -> None:
        if self._held:
            self._settle()
        else:
            self._fail(reason)
            self._await_traffic()

    def _await_traffic(self) -> None:
        """ECMP-7, effective immediately = no: the next packet that is routed into the tunnel starts the negotiation."""
        if self.tunnel.initiate == "traffic" and not (self._held or self._carrying or self._stopping):
            self._doorway.open()

    def _entered(self, packet: str) -> None:
        self._doorway.close()
        self._emit("traffic", packet=packet)
        self._negotiator.want(persistent=False)

    def _trapped(self, packet: str) -> None:
        """charon negotiates, by itself: what is left to do is to tell of it."""
        self._heard = None
        self._negotiator.begun_elsewhere()
        self._emit("traffic", packet=packet)
        if self._status.state is not State.FAILED:
            self._become(State.NEGOTIATING)

    def _attempt_of_trap_concluded(self) -> None:
        if self._trap is not None:
            self._negotiator.concluded()

    def _hold_no_more(self) -> None:
        if self._held and self._trap is not None:
            self._task(self._trap.install(self._require_charon()))
        self._held = False

    # -- status ---------------------------------------------------------------------------------------------------------

    def _resting(self) -> State:
        """The state of a tunnel that is not up and has not failed."""
        return State.DOWN if self._held else State.WAITING

    def _become(self, state: State, reason: Reason | None = None) -> None:
        self._status.become(state, reason)

    def _fail(self, reason: Reason) -> None:
        self._attempt_of_trap_concluded()
        self._status.failed(reason, attempt=self._negotiator.attempts, up=bool(self._carrying))

    def _emit(self, kind: str, **fields: Any) -> None:
        self.events.emit(kind, node=self.settings.node, tunnel=self.tunnel.name, **fields)

    # -- methods of the control socket ----------------------------------------------------------------------------------

    def show_status(self) -> dict[str, Any]:
        """The state with its reason and since when (monotonic seconds), who talks to whom, and the processes behind it."""
        established = any(sa.state == "ESTABLISHED" for sa in self.accounts.sas)
        return {
            "node": self.settings.node,
            "tunnel": self.tunnel.name,
            "state": self._status.state.value,
            "console": self._status.console(ike_established=established),
            "reason": None if self._status.reason is None else self._status.reason.as_fields(),
            "since": self._status.since,
            "attempts": self._negotiator.attempts,
            "negotiating": self._negotiator.attempting,
            "next_attempt": self._negotiator.next_attempt,
            "initiate": self.tunnel.initiate,
            "local": self.tunnel.local,
            "remote": self.tunnel.remote,
            "local_id": self.tunnel.local_id,
            "remote_id": self.tunnel.remote_id,
            "dataplane": self.settings.plane.value,
            "interface": self.tunnel.interface,
            "address": self.tunnel.address,
            "ifindex": self._line.ifindex,
            "line": "up" if self._line.up else "down",
            "charon": self._charon.pid,
        }

    async def listed_status(self) -> dict[str, Any]:
        """``show.status``: with the IKE_SAs as charon has them now, which the console's word depends on."""
        await self._list_if_running()
        return self.show_status()

    async def show_sas(self) -> dict[str, Any]:
        """The IKE_SAs with their CHILD_SAs as charon lists them now, and the traffic over all rekeys."""
        await self._list_if_running()
        return {
            "ike": [dataclasses.asdict(sa) for sa in self.accounts.sas],
            "traffic": dataclasses.asdict(self.accounts.total()),
            "ike_lifetime": self.tunnel.ike.lifetime,
            "esp_lifetime": self.tunnel.esp.lifetime,
        }

    async def counters(self) -> dict[str, Any]:
        """Traffic through ESP over all rekeys (``esp``, see ``Accounts``) and through the interface since its line first came up."""
        await self._list_if_running()
        return {
            "time": time.monotonic(),
            "esp": dataclasses.asdict(self.accounts.total()),
            "rekeys": self._rekeys,
            "interface": self._line.counters(),
        }

    def log(self, lines: int = 100) -> list[dict[str, Any]]:
        """The last lines of charon's log with the times they were read."""
        self._charon.drain()
        return [{"time": at, "line": line} for at, line in list(self._charon.lines)[-lines:]]

    def initiate(self) -> dict[str, Any]:
        """Negotiates now; an end that is to initiate goes on until it succeeds, and again after every loss."""
        self._require_charon()
        self._hold_no_more()
        self._negotiator.want(persistent=self.tunnel.initiate == "start")
        return self.show_status()

    async def terminate(self) -> dict[str, Any]:
        """Ends the tunnel by DELETE. It stays down on this side until ``initiate``; a peer that initiates will come again."""
        vici = self._require_charon()
        before, self._held = self._held, True
        self._doorway.close()
        if self._trap is not None and not before:
            await self._trap.uninstall(vici)
        self._negotiator.want_no_more()
        session = await ViciSession.connect(self._charon.vici_socket)
        try:
            await session.request(
                "terminate",
                {"ike": self.tunnel.name, "force": "yes", "timeout": str(int(_TERMINATE_WITHIN * 1000))},
            )
        except ViciError as error:
            if "no matching SAs" not in str(error):
                raise
        finally:
            session.close()
        self._look.set()
        return self.show_status()

    async def rekey(self, what: str = "child") -> dict[str, Any]:
        """Rekeys the CHILD_SA, or with ``what="ike"`` the IKE_SA, as soon as no other rekey is under way: see ``Rekeying``."""
        vici = self._require_charon()
        return await self._rekeying.ask(lambda kind: vici.request("rekey", {kind: self.tunnel.name}), what)

    async def restart(self) -> dict[str, Any]:
        """Ends charon, if it runs, and starts it anew."""
        async with self._life:
            await self._end_charon()
            await self._start_charon()
        return self.show_status()

    def stop(self) -> str:
        """Ends the agent: charon sends DELETE and goes, then the control socket."""
        asyncio.get_running_loop().call_soon(self._finished.set)
        return "stopping"

    def _require_charon(self) -> ViciSession:
        if self._vici is None:
            raise ValueError(f"tunnel {self.tunnel.name}: charon is not running; call restart")
        return self._vici


def main(argv: Sequence[str]) -> None:
    """The process: ``--config FILE`` (mode 0600, see ``Settings``), with ``--consume`` removed once read."""
    parser = argparse.ArgumentParser(
        prog="vbrlab-ipsec", description="Runs one IPsec tunnel end in this network namespace."
    )
    parser.add_argument("--config", type=Path, required=True, help="hand-over file, mode 0600: it holds the key")
    parser.add_argument("--consume", action="store_true", help="remove the hand-over file once read")
    arguments = parser.parse_args(argv)
    settings = Settings.read(arguments.config, consume=arguments.consume)
    asyncio.run(Agent(settings).run())
