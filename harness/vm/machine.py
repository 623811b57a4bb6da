"""QEMU: the command line, the choice of the accelerator by a probe boot, and a run with its console.

Two serial ports: the kernel's messages go to a file, which is shown when a boot fails; the job's terminal is QEMU's standard input and
output. No network.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.vm.child import die_with_parent

QEMU = "qemu-system-x86_64"
_APPEND = "console=ttyS0 quiet panic=-1 mitigations=off"
_AT_INIT = b"@@vbrlab init"
_AT_JOB = b"@@vbrlab job"
_PROBE_WITHIN = 15.0  # seconds for a kernel under KVM to reach init: it takes two, or never does
_BOOT_WITHIN = 180.0
_END_OF_TEXT = b"\x03"  # Ctrl-C to the terminal inside


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How QEMU runs the processors: its options, and what the kernel is to know of it."""

    options: Sequence[str]
    append: str = ""


KVM = Accelerator(("-accel", "kvm", "-cpu", "host"))
TCG = Accelerator(
    # Without erms, the kernel does not clear and copy pages by string instructions, which are emulated an octet at a time.
    ("-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,-erms"),
    # Code at addresses of its own in every process would be translated for every process. A look at the HPET leaves the translated code.
    "norandmaps tsc=reliable clocksource=tsc",
)
"""Software emulation, set up for speed (figures in docs/vm.md). Nothing that a lab asks the kernel for is changed by it."""


class NotBooted(Exception):
    """The machine did not reach its job; the text ends with the kernel's last words."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is booted. ``disks`` become vda, vdb, vdc; the first is never written to."""

    kernel: Path
    initrd: Path
    disks: Sequence[Path]
    console: Path
    memory: int = 3072
    processors: int = 2

    def command(self, accelerator: Accelerator, append: str = "") -> list[str]:
        drives = []
        for index, disk in enumerate(self.disks):
            drives += [
                "-drive",
                f"if=virtio,format=raw,file={disk},cache=unsafe" + (",snapshot=on" if index == 0 else ""),
            ]
        return [
            *(QEMU, "-machine", "q35", *accelerator.options, "-smp", str(self.processors), "-m", str(self.memory)),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-serial", f"file:{self.console}", "-chardev", "stdio,id=job,signal=off", "-serial", "chardev:job"),
            *("-device", "virtio-rng-pci", *drives),
            *("-kernel", str(self.kernel), "-initrd", str(self.initrd)),
            *("-append", " ".join(filter(None, (_APPEND, accelerator.append, append)))),
        ]

    def last_words(self) -> str:
        """The end of what the kernel has said; empty when it has said nothing."""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-60:]) if self.console.exists() else ""


def accelerator(machine: Machine, cache: Path, say: Callable[[str], None]) -> Accelerator:
    """KVM if a probe boot under it reaches init, else software emulation. The finding holds until this computer starts again."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        say("software emulation (TCG): there is no /dev/kvm for this user")
        return TCG
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    finding = cache / f"kvm-{boot}"
    if not finding.exists():
        for old in cache.glob("kvm-*"):
            old.unlink()
        finding.write_text("yes" if _reaches_init(machine) else "no")
    if finding.read_text() == "yes":
        say("KVM: a probe boot under it reached init")
        return KVM
    say("software emulation (TCG): /dev/kvm opens, but a probe boot under it did not reach init")
    return TCG


def _reaches_init(machine: Machine) -> bool:
    command = machine.command(KVM, "vbrlab.probe")
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_WITHIN,
            preexec_fn=die_with_parent(),
            check=False,
        )
        return _AT_INIT in done.stdout
    return False


@dataclass(frozen=True, slots=True)
class Boot:
    """When things happened, in seconds from QEMU's start."""

    init: float
    job: float
    end: float


def run(machine: Machine, accelerator: Accelerator, *, interactive: bool, say: Callable[[str], None]) -> Boot:
    """Boots, streams the job's terminal to standard output, returns when the machine is off. Raises NotBooted.

    Ctrl-C goes to the job; a second one within three seconds ends the machine.
    """
    began = time.monotonic()
    with subprocess.Popen(
        machine.command(accelerator),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        preexec_fn=die_with_parent(),
    ) as qemu:
        assert qemu.stdin is not None
        try:
            with _raw_terminal() if interactive else _interrupts(qemu):
                init, job = _console(qemu, began, interactive, say)
        finally:
            if qemu.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    qemu.wait(10)
            if qemu.poll() is None:
                qemu.kill()
        errors = qemu.stderr.read().decode(errors="replace") if qemu.stderr else ""
    if job is None:
        reached = "after init" if init is not None else "before init"
        raise NotBooted("\n".join((f"the machine ended or hung {reached}", errors.strip(), machine.last_words())))
    return Boot(init or job, job, time.monotonic() - began)


def _console(
    qemu: subprocess.Popen[bytes], began: float, interactive: bool, say: Callable[[str], None]
) -> tuple[float | None, float | None]:
    """Passes octets both ways; what comes before the job's own first word is kept back. The moments of init and job."""
    assert qemu.stdout is not None and qemu.stdin is not None
    init = job = None
    head = b""
    poll = select.poll()
    poll.register(qemu.stdout, select.POLLIN)
    if interactive:
        poll.register(sys.stdin, select.POLLIN)
    while True:
        ready = dict(poll.poll(1000))
        now = time.monotonic() - began
        if job is None and now > _BOOT_WITHIN:
            qemu.kill()
            return init, job
        if sys.stdin.fileno() in ready and interactive:
            typed = os.read(sys.stdin.fileno(), 4096)
            if not typed:
                poll.unregister(sys.stdin)
            else:
                qemu.stdin.write(typed)
                qemu.stdin.flush()
        if qemu.stdout.fileno() not in ready:
            continue
        octets = os.read(qemu.stdout.fileno(), 65536)
        if not octets:
            return init, job
        if job is not None:
            _out(octets)
            continue
        head += octets
        if init is None and _AT_INIT in head:
            init = now
        if _AT_JOB in head:
            job = now
            say(f"init after {init or now:.1f} s, job after {now:.1f} s")
            _out(head.partition(_AT_JOB)[2].lstrip(b"\r\n"))


def _out(octets: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key to the machine, while it runs."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _interrupts(qemu: subprocess.Popen[bytes]) -> Iterator[None]:
    last = 0.0

    def interrupted(_number: int, _frame: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 3.0:
            qemu.kill()
        elif qemu.stdin is not None:
            with contextlib.suppress(OSError):
                qemu.stdin.write(_END_OF_TEXT)
                qemu.stdin.flush()
        last = now

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
