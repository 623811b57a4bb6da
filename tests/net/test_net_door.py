"""The door of a lab as its visitors meet it: who may enter, and that nobody is left when the lab or the visitor dies."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.net import door, sandbox, supervisor
from harness.net.sandbox import JoinError
from tests.net.running_lab import WITHIN, all_ended, holders, lab, need_to_be_outside, pinned, visiting
from tests.net.sandboxed import environment

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _possible() -> None:
    need_to_be_outside()


DOORS = f"doors{os.getpid()}"
"""A lab's name is seen on the whole machine, where other runs of these tests may have theirs."""


class TestDoor:
    def test_a_command_in_a_node(self, capfd: pytest.CaptureFixture[str]) -> None:
        with lab(DOORS) as running:
            assert sandbox.join(DOORS, "gw1", ["sh", "-c", "readlink /proc/self/ns/net; exit 3"]) == 3
            inode = int(capfd.readouterr().out.strip()[5:-1])
            assert inode in running.inodes
            assert (
                sandbox.join(running.lab_id, "gw2", ["sh", "-c", "echo $VBRLAB_SANDBOX; ls /sys/class/net; pwd"]) == 0
            )
            said, *_links, directory = capfd.readouterr().out.split()
            assert said.endswith(f":{running.lab_id}")
            assert directory == str(Path.cwd())
            assert sandbox.join(DOORS, None, ["sh", "-c", "kill -9 $$"]) == 137
            assert sandbox.join(DOORS, "gw1", ["no-such-program"]) == 127

    def test_who_may_not_enter_is_told_why(self) -> None:
        with lab(DOORS):
            with pytest.raises(JoinError, match="no node 'gw9'; there are gw1, gw2"):
                sandbox.join(DOORS, "gw9", ["true"])
            with pytest.raises(JoinError, match=rf"no lab 'windows' is running; there are .*{DOORS}-\d+"):
                sandbox.join("windows", "gw1", ["true"])
            with (
                lab(DOORS),
                pytest.raises(JoinError, match=rf"lab '{DOORS}' runs 2 times; say which: {DOORS}-\d+, {DOORS}-\d+"),
            ):
                sandbox.find(DOORS)
            answer, _ = door.ask(sandbox.find(DOORS), {"op": "nodes"})
            assert answer == {"nodes": ["gw1", "gw2"]}
            with pytest.raises(JoinError, match="unknown operation 'dance'"):
                door.ask(sandbox.find(DOORS), {"op": "dance"})

    def test_a_killed_lab_takes_its_visitors_along(self) -> None:
        code = visiting(DOORS, "echo in; exec sleep 1000")
        with (
            lab(DOORS) as running,
            subprocess.Popen(
                [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
            ) as visitor,
        ):
            assert visitor.stdout is not None
            assert visitor.stdout.readline() == "in\n"
            pids = [int(pid) for pid in holders(running.inodes)]
            with pinned(pids):
                watched = list(all_ended(pids))
                running.process.kill()
                assert visitor.wait(WITHIN) == 137
                for pidfd in watched:
                    assert select.select([pidfd], [], [], WITHIN)[0]
                    os.close(pidfd)
                assert holders(running.inodes) == {}

    @pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_what_a_process_tells_the_visitor_reaches_its_command(self, told: signal.Signals) -> None:
        """As `timeout` and service managers do: the command ends in its own way, and the visitor with its status."""
        code = visiting(DOORS, f"trap 'kill $!; exit 5' {told.name[3:]}; sleep 1000 & echo in; wait")
        with (
            lab(DOORS),
            subprocess.Popen(
                [sys.executable, "-c", code],
                env=environment(),
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as visitor,
        ):
            assert visitor.stdout is not None
            assert visitor.stdout.readline() == "in\n"
            visitor.send_signal(told)
            assert visitor.wait(WITHIN) == 5

    def test_a_killed_visitor_leaves_no_command(self) -> None:
        code = visiting(DOORS, "echo in; exec sleep 1000")
        with lab(DOORS) as running:
            before = set(holders(running.inodes))
            with subprocess.Popen(
                [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
            ) as visitor:
                assert visitor.stdout is not None
                visitor.stdout.readline()
                added = [int(pid) for pid in set(holders(running.inodes)) - before]
                watched = list(all_ended(added))
                visitor.kill()
                for pidfd in watched:
                    assert select.select([pidfd], [], [], WITHIN)[0]
                    os.close(pidfd)
            assert set(holders(running.inodes)) == before


@pytest.mark.parametrize(("visitor", "code"), [("there", 0), ("gone", supervisor.REFUSED)])
def test_a_command_whose_visitor_has_just_died_is_not_started(visitor: str, code: int) -> None:
    alive, held = os.pipe()
    if visitor == "gone":
        os.close(held)
    child = os.fork()
    if child == 0:
        door._end_with_visitor(alive)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    os.close(alive)
    if visitor == "there":
        os.close(held)
