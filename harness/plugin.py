"""The pytest plugin: labs run in the sandbox, share a zygote, leave evidence, and end in a report.

A pytest run that touches a folder of labs (ini option ``vbrlab_labs``) replaces itself by one inside the sandbox, once, before
anything is collected; runs of other tests are left alone. With ``-n`` the workers inherit the sandbox. Imports of the lab come
late: this module is loaded by every pytest run of the environment it is installed in.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.net.zygote import Zygote
    from harness.session import Labs, RunRecord

_RECORD: pytest.StashKey[RunRecord] = pytest.StashKey()
_ZYGOTE: pytest.StashKey[Zygote] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vbrlab", "labs in network namespaces")
    group.addoption("--pause-on-failure", action="store_true", help="stop inside a failed lab with a prompt")
    group.addoption("--lab-seed", type=int, default=1, metavar="N", help="seed of hash seeds and flows (default: 1)")
    group.addoption(
        "--speaker",
        action="append",
        default=[],
        metavar="[NODE=]DAEMON",
        help="frr, bird, gobgp or exabgp in the place of our speaker, in one node or wherever it has what the lab needs",
    )
    group.addoption(
        "--dataplane",
        choices=("xfrm", "libipsec"),
        help="who encrypts: the kernel, or charon in user space; refused where it is not there (default: the kernel if it can)",
    )
    group.addoption("--run-dir", type=Path, metavar="DIR", help="folder of the report (default: reports/out/<time>)")
    parser.addini("vbrlab_labs", "folders whose tests are labs: they run in the sandbox", type="paths", default=[])


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--pause-on-failure") and hasattr(config.option, "timeout"):
        config.option.timeout = 0.0  # pytest-timeout must not end a lab while somebody looks at it
    config.addinivalue_line("markers", "spec(*ids): the requirements of docs/requirements.md that this proves")
    config.addinivalue_line("markers", "needs(*features): skipped where vbrlab doctor does not find these features")
    config.addinivalue_line("markers", "busy: keeps a processor at work; of the labs marked so one runs at a time")
    if not wants_sandbox(config):
        return
    from harness.net import sandbox
    from harness.patience import stretched

    if not sandbox.inside():
        return
    from harness.session import RunRecord

    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.option.timeout = worker["vbrlab_timeout"]
    elif seconds := _timeout(config):
        config.option.timeout = stretched(seconds)
    folder = Path(worker["vbrlab_run"]) if worker is not None else config.getoption("--run-dir")
    config.stash[_RECORD] = RunRecord.begin(config.rootpath, folder, owner=worker is None)
    if worker is not None or not _distributed(config):
        from harness.lab import PRELOAD
        from harness.net.zygote import Zygote

        config.stash[_ZYGOTE] = Zygote.start(PRELOAD)


def _distributed(config: pytest.Config) -> bool:
    """Does pytest-xdist hand the tests to workers (``-n``)?"""
    return bool(config.getoption("numprocesses", None))


def _timeout(config: pytest.Config) -> float:
    """pytest-timeout's limit of a test, from wherever it is set; 0 without one."""
    if not hasattr(config.option, "timeout"):
        return 0.0
    if config.option.timeout is not None:
        return float(config.option.timeout)
    return float(os.environ.get("PYTEST_TIMEOUT") or config.getini("timeout") or 0.0)


def wants_sandbox(config: pytest.Config) -> bool:
    """Do the arguments of this run touch a folder of labs, and will it run tests at all?"""
    if any(config.getoption(name, False) for name in ("help", "version", "collectonly", "markers", "showfixtures")):
        return False
    folders = [Path(folder).resolve() for folder in config.getini("vbrlab_labs")]
    asked = [(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args]
    return any(
        path == folder or folder in path.parents or path in folder.parents for path in asked for folder in folders
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if hasattr(config, "workerinput") or not wants_sandbox(config):
        return None
    from harness.net import sandbox

    if sandbox.inside():
        return None
    from harness.session import refusal
    from harness.speakers import UnknownSpeaker, wishes

    try:
        wishes(config.getoption("--speaker"))
    except UnknownSpeaker as error:
        raise pytest.UsageError(str(error)) from None
    if config.getoption("--pause-on-failure") and _distributed(config):
        raise pytest.UsageError("--pause-on-failure needs the terminal for one lab at a time: leave out -n")
    if why := refusal(config.getoption("--dataplane")):
        raise pytest.UsageError(why)
    # With the capture still in place the inner run's output, and --pdb's prompt, would be lost.
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    sandbox.reexec([sys.executable, "-m", "pytest", *map(str, config.invocation_params.args)], name="pytest")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: workers write into the run's own folder, and have its limit of a test, which xdist does not hand on."""
    if (record := node.config.stash.get(_RECORD, None)) is not None:
        node.workerinput["vbrlab_run"] = str(record.folder.path)
        node.workerinput["vbrlab_timeout"] = getattr(node.config.option, "timeout", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if _RECORD not in config.stash:
        return None
    from harness.turns import scheduler

    return scheduler(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _RECORD in config.stash and hasattr(config, "workerinput"):
        from harness.turns import BUSY, marked_last

        marked_last(items, BUSY)


def pytest_report_header(config: pytest.Config) -> list[str]:
    record = config.stash.get(_RECORD, None)
    return record.header() if record is not None else []


def pytest_runtest_setup(item: pytest.Item) -> None:
    names = [name for marker in item.iter_markers("needs") for name in marker.args]
    if not names:
        return
    from harness.probe import probe

    if unknown := sorted(set(names) - set(probe())):
        pytest.fail(f"mark needs: no feature {unknown[0]!r}; there are {', '.join(probe())}", pytrace=False)
    if missing := probe().missing(*names):
        finding = missing[0]
        pytest.skip(f"no {finding.feature.title}: {finding.reason}; {finding.feature.remedy}")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest-timeout's: a lab that waits for its turn has not begun
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    record = item.config.stash.get(_RECORD, None)
    if record is None:
        return (yield)
    record.test = item.nodeid
    if not hasattr(item.config, "workerinput"):
        return (yield)
    from harness.net import sandbox
    from harness.turns import BUSY, one_at_a_time

    with one_at_a_time(item, BUSY, sandbox.run_directory()):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.excinfo is not None:
        _skip_unsuited(item, call.excinfo.value, report)
    if report.when == "setup":
        ids = [str(i) for marker in item.iter_markers("spec") for i in marker.args]
        doc = (getattr(getattr(item, "function", None), "__doc__", "") or "").strip().partition("\n")[0]
        report.user_properties += [("spec", i) for i in dict.fromkeys(ids)] + [("title", doc or item.name)]
        item.user_properties[:] = report.user_properties
    record = item.config.stash.get(_RECORD, None)
    if record is not None:
        from harness.session import labs_of

        shared = [lab.plane.value for lab in labs_of(item) if lab.plane is not None]
        report.user_properties += [("plane", plane) for plane in (*record.planes.get(item.nodeid, ()), *shared)]
    if record is not None and report.failed and call.excinfo is not None:
        for lab in labs_of(item):
            record.bundle(lab, item.nodeid)
            if item.config.getoption("--pause-on-failure"):
                _pause(item.config, lab, call.excinfo.value, lab.loop.run_until_complete)
    return report


def _skip_unsuited(item: pytest.Item, failure: BaseException, report: pytest.TestReport) -> None:
    """A lab that needs what the daemon of ``--speaker`` has not is skipped with that reason, wherever it finds out."""
    from harness.speakers import NotSuited

    if isinstance(failure, NotSuited):
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, line or 0, f"Skipped: {failure}")


def _pause(config: pytest.Config, lab: Lab, failure: BaseException, run: Callable[[Any], Any]) -> None:
    """The prompt inside a lab whose test failed, with the terminal in hand."""
    from harness.console import Console

    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    why = (str(failure) or type(failure).__name__).splitlines()[0]
    test = config.stash[_RECORD].test
    Console(lab, run, banner=f"\n{test} failed: {why}\nThe lab still runs; Ctrl-D ends it and goes on.").run()
    if capture is not None:
        capture.resume_global_capture()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called on the controller for every phase of every test, wherever it ran."""
    for record in _records:
        record.note(report)


_TONES: dict[str, dict[str, bool]] = {
    "passed": {"green": True},
    "failed": {"red": True, "bold": True},
    "skipped": {"yellow": True},
    "heading": {"bold": True},
}
_records: list[RunRecord] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    record = session.config.stash.get(_RECORD, None)
    if record is not None and record.owner:
        _records.append(record)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    zygote = session.config.stash.get(_ZYGOTE, None)
    if zygote is not None:
        zygote.stop()
    record = session.config.stash.get(_RECORD, None)
    if record is not None and record.owner:
        record.finish()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    record = config.stash.get(_RECORD, None)
    if record is not None and record.owner:
        terminalreporter.section("vbrlab")
        for line in record.summary(terminalreporter._tw.fullwidth):
            terminalreporter.write_line(line.text, **_TONES.get(line.tone, {}))


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    from harness.tables import RouteTable, side_by_side

    if op == "==" and isinstance(left, RouteTable) and isinstance(right, RouteTable):
        return side_by_side(left, right)
    return None


@pytest.fixture(scope="session")
async def labs(request: pytest.FixtureRequest) -> AsyncIterator[Labs]:
    """Starts labs: ``async with labs.running(plan) as lab``."""
    from harness.session import Labs
    from harness.speakers import wishes

    config = request.config
    if _ZYGOTE not in config.stash:
        pytest.fail("labs run in the sandbox only: list their folder in the ini option vbrlab_labs", pytrace=False)

    async def pause(lab: Lab, failure: BaseException) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(
            _pause, config, lab, failure, lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
        )

    wanted = pause if config.getoption("--pause-on-failure") else None
    speakers = wishes(config.getoption("--speaker"))
    yield Labs(config.stash[_ZYGOTE], config.stash[_RECORD], config.getoption("--lab-seed"), wanted, speakers)
