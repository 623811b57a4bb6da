"""The neighbours of a speaker, and what operators do with them while it runs: add, delete, change, shut, start, reset, clear.

Nothing restarts that need not: :meth:`Neighborhood.change_neighbor` resets a session only for the fields that
:data:`harness.bgp.changes.EFFECTS` says cannot change under it.
"""

from __future__ import annotations

from harness.bgp import signals
from harness.bgp.adjacency import Adjacency
from harness.bgp.bfd_options import BfdOptions
from harness.bgp.changes import Effect, changed_fields
from harness.bgp.config import Neighbor, Rule
from harness.bgp.errors import Cease, ErrorCode, describe
from harness.bgp.fsm import State
from harness.bgp.ports import Bfd
from harness.bgp.surroundings import Surroundings


class NeighborError(ValueError):
    """A command names a neighbour that is not there, or is there already, or cannot do what is asked."""


class Neighborhood:
    """The neighbours by name (``adjacencies``)."""

    def __init__(self, around: Surroundings, bfd: Bfd) -> None:
        self.bfd = bfd
        self.adjacencies: dict[str, Adjacency] = {}
        self._around = around

    def adjacency(self, name: str) -> Adjacency:
        """A neighbour by its name or address. Raises NeighborError."""
        for adjacency in self.adjacencies.values():
            if name in (adjacency.name, adjacency.config.address):
                return adjacency
        known = ", ".join(self.adjacencies) or "none"
        raise NeighborError(f"there is no neighbour {name!r}; there are {known}")

    def add_neighbor(self, neighbor: Neighbor) -> None:
        """Raises NeighborError where its name or address is taken."""
        for other in self.adjacencies.values():
            if neighbor.name == other.name or neighbor.address == other.config.address:
                raise NeighborError(
                    f"neighbour {other.name} ({other.config.address}) is there already; delete it first, or reconfigure it"
                )
        self._put_neighbor(neighbor)
        self._tell_shell()
        self._around.log.emit("neighbor", action="add", peer=neighbor.name)
        if not neighbor.shutdown:
            self._begin(self.adjacencies[neighbor.name])

    def delete_neighbor(self, name: str) -> None:
        """Cease/3 to the neighbour; then nothing of it is left."""
        adjacency = self.adjacency(name)
        adjacency.feed(signals.Stop(Cease.PEER_DECONFIGURED))
        adjacency.retire()
        self._around.deferral.without(adjacency.name)
        self.bfd.unwatch(adjacency.name)
        del self.adjacencies[adjacency.name]
        self._tell_shell()
        self._around.log.emit("neighbor", action="delete", peer=adjacency.name)

    def change_neighbor(self, neighbor: Neighbor) -> dict[str, str]:
        """Gives the neighbour of that name a new configuration, and says of each field that differs when it takes effect.

        Raises NeighborError where the neighbour is not there, or another one has the new address.
        """
        adjacency = self.adjacencies.get(neighbor.name)
        if adjacency is None:
            known = ", ".join(self.adjacencies) or "none"
            raise NeighborError(f"there is no neighbour {neighbor.name!r} to change; there are {known}")
        for other in self.adjacencies.values():
            if other is not adjacency and other.config.address == neighbor.address:
                raise NeighborError(f"address {neighbor.address} is that of neighbour {other.name}; choose another")
        neighbor.secret()
        old = adjacency.config
        changed = changed_fields(old, neighbor)
        if not changed:
            return {}
        effects = set(changed.values())
        # A session that is not up yet has nothing to lose: it begins again with all that is new.
        idle_too = Effect.NEXT_SESSION in effects or bool({"key", "key_file", "maximum_prefixes"} & changed.keys())
        begins = Effect.RESET in effects or (idle_too and not adjacency.is_up)
        if neighbor.shutdown and not old.shutdown:
            self._stop(adjacency, Cease.ADMINISTRATIVE_SHUTDOWN)
        elif begins:
            self._stop(adjacency, Cease.OTHER_CONFIGURATION_CHANGE)
        adjacency.configure(neighbor)
        self._tell_shell()
        if neighbor.shutdown:
            self.bfd.unwatch(neighbor.name)
        else:
            self._change_bfd(old, neighbor)
            if begins or old.shutdown:
                adjacency.feed(signals.Start())
        told = {name: effect.value for name, effect in changed.items()}
        self._around.log.emit("neighbor", action="change", peer=neighbor.name, changed=told)
        self._around.wake()
        return told

    def _change_bfd(self, old: Neighbor, new: Neighbor) -> None:
        """BFD as the new configuration has it; only other timers leave its session as it is."""
        before, after = old.bfd, new.bfd
        endpoints = (old.address, old.local_address) == (new.address, new.local_address) and not old.shutdown
        if endpoints and before == after:
            return
        if endpoints and before is not None and after is not None:
            timers = {"interval_ms": after.interval_ms, "multiplier": after.multiplier}
            if before.model_copy(update=timers) == after:
                self.bfd.retime(new.name, after.interval_ms, after.multiplier)
                return
        self.bfd.unwatch(new.name)
        self.bfd.watch(new)

    def shut_neighbor(self, name: str, text: str = "") -> None:
        """Cease/2 to the neighbour, with ``text`` (RFC 9003); it stays configured."""
        adjacency = self.adjacency(name)
        adjacency.config = adjacency.config.model_copy(update={"shutdown": True})
        self._stop(adjacency, Cease.ADMINISTRATIVE_SHUTDOWN, text)
        self.bfd.unwatch(adjacency.name)

    def _stop(self, adjacency: Adjacency, subcode: Cease, text: str = "") -> None:
        """Ends a session, and what is kept of one that ended before."""
        adjacency.feed(signals.Stop(subcode, text))
        adjacency.helper.forget(describe(ErrorCode.CEASE, subcode))
        if subcode is Cease.ADMINISTRATIVE_SHUTDOWN:
            self._around.deferral.without(adjacency.name)

    def start_neighbor(self, name: str) -> None:
        """The end of :meth:`shut_neighbor`."""
        adjacency = self.adjacency(name)
        if adjacency.config.shutdown:
            adjacency.config = adjacency.config.model_copy(update={"shutdown": False})
            self._begin(adjacency)
        else:
            adjacency.feed(signals.Start())

    def reset_neighbor(self, name: str, text: str = "") -> None:
        """Cease/4 to the neighbour and a new session; one that waits in Idle, or stays there for its prefixes, begins at once."""
        adjacency = self.adjacency(name)
        if adjacency.peer.state is State.IDLE and not adjacency.config.shutdown:
            adjacency.feed(signals.Start())
        else:
            adjacency.feed(signals.Reset(text=text))

    def drain_neighbor(self, name: str, draining: bool = True) -> None:
        """Graceful shutdown (RFC 8326): traffic leaves the session's paths while they still carry it. Ends with ``draining`` false, or
        with the neighbour's deletion; it outlives the session."""
        adjacency = self.adjacency(name)
        if adjacency.draining is not draining:
            adjacency.drain(draining)
            self._around.log.emit("drain", peer=adjacency.name, draining=draining)

    def path_lost(self, name: str, reason: str) -> None:
        """BFD says that the path to a neighbour is gone: its session ends at once (RFC 5882 4.3, RFC 9384)."""
        if (adjacency := self.adjacencies.get(name)) is not None:
            adjacency.feed(signals.BfdDown(reason))

    def retime_bfd(self, name: str, interval_ms: int, multiplier: int) -> None:
        """Other BFD timers for a neighbour; nothing goes down for it. Raises NeighborError where it has no BFD."""
        adjacency = self.adjacency(name)
        if adjacency.config.bfd is None or adjacency.config.shutdown:
            raise NeighborError(f"neighbour {adjacency.name} has no BFD session; configure bfd for it, and start it")
        values = adjacency.config.bfd.model_dump() | {"interval_ms": interval_ms, "multiplier": multiplier}
        options = BfdOptions.model_validate(values)
        adjacency.config = adjacency.config.model_copy(update={"bfd": options})
        self.bfd.retime(adjacency.name, options.interval_ms, options.multiplier)

    def _begin(self, adjacency: Adjacency) -> None:
        adjacency.feed(signals.Start())
        # A session that BFD never sees up is not held down by it (VBR-34), so the two begin together.
        self.bfd.watch(adjacency.config)

    def set_policy(self, name: str, direction: str, rules: tuple[Rule, ...]) -> None:
        """The policy of a neighbour from now on. Nothing is sent until a soft clear (BGP-7)."""
        adjacency = self.adjacency(name)
        if direction not in ("import", "export"):
            raise NeighborError(f"policy direction {direction!r}: there are import and export")
        field = "import_" if direction == "import" else "export"
        adjacency.configure(adjacency.config.model_copy(update={field: rules}))
        self._around.log.emit("policy", peer=adjacency.name, direction=direction, terms=len(rules))

    def clear_soft(self, name: str, direction: str, *, stored: bool = False) -> None:
        """Policies anew, the session untouched (BGP-7). In: the neighbour is asked for its routes, or with ``stored`` Adj-RIB-In is
        used. Raises NeighborError where the session is down, or the neighbour cannot be asked (BGP-19)."""
        adjacency = self.adjacency(name)
        session = adjacency.peer.session
        if session is None:
            raise NeighborError(
                f"neighbour {adjacency.name} is in state {adjacency.peer.state.value}; a soft clear needs a session"
            )
        if direction not in ("in", "out", "both"):
            raise NeighborError(f"soft clear {direction!r}: there are in, out and both")
        if direction != "out" and not stored and not session.route_refresh:
            raise NeighborError(
                f"neighbour {adjacency.name} did not announce the route refresh capability (RFC 2918): "
                "use the stored routes, or reset the session"
            )
        for family in sorted(session.families, key=lambda f: f.value):
            if direction != "in":
                self._around.groups.renew(adjacency.outbound[family])
            if direction != "out" and stored:
                self._around.walk(adjacency.inbound[family].again())
            elif direction != "out":
                adjacency.feed(signals.Refresh(family))
        self._around.log.emit("clear", peer=adjacency.name, direction=direction, stored=stored)
        self._around.wake()

    def _put_neighbor(self, neighbor: Neighbor) -> None:
        neighbor.secret()
        self.adjacencies[neighbor.name] = Adjacency(neighbor, self._around)

    def _tell_shell(self) -> None:
        self._around.shell.neighbors_changed({name: a.config for name, a in self.adjacencies.items()})
