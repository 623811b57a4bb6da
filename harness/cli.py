"""``vbrlab``: list and check scenarios, bring one up, join it from another terminal, see what the machine lacks.

Exit status: 0 done, 1 the answer is no (a finding, a wrong table), 2 wrong usage, 125 no sandbox can be made here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness import vbr_cli, version
from harness.up import started_at

if TYPE_CHECKING:
    from harness.plan import Plan
    from harness.speakers import Wish

app = typer.Typer(
    name="vbrlab",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Rebuilds documented Alibaba Cloud hybrid-network topologies in Linux network namespaces.",
)
chart_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make the charts of a run alone.")
app.add_typer(chart_app, name="chart")
app.add_typer(vbr_cli.app, name="vbr", short_help="The console of a running lab's virtual border router.")

_STARTED = "VBRLAB_STARTED"

Name = Annotated[str, typer.Argument(metavar="NAME", help="a scenario, see vbrlab list")]
Source = Annotated[str, typer.Argument(metavar="NAME|FILE", help="a scenario, see vbrlab list, or a YAML document")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def _fail(text: object, status: int = 1) -> NoReturn:
    typer.echo(f"vbrlab: {text}", err=True)
    raise typer.Exit(status)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        _fail(f"{path} cannot be written: {error.strerror}")
    typer.echo(f"{path} written")


def _scenario(name: str) -> Any:
    import topologies

    try:
        return topologies.load(name)
    except topologies.UnknownScenario as error:
        _fail(error, 2)


def _document(path: str) -> Any:
    """The YAML document in a file; "-" is the standard input."""
    from harness import documents

    try:
        return documents.read_file(path)
    except documents.Unreadable as error:
        _fail(error, 2)


def _plan_of(name: str) -> Plan:
    """The lab of a scenario or of a document without errors."""
    import topologies

    if name in topologies.SCENARIOS:
        plan: Plan = _scenario(name).plan()
        return plan
    return _plan_of_document(name, _document(name))


def _plan_of_document(name: str, document: Any) -> Plan:
    from harness import documents
    from harness.cloud.findings import Refused

    try:
        plan: Plan = document.plan()
    except Refused:
        typer.echo(documents.as_text(name, document.findings), err=True)
        raise typer.Exit(1) from None
    return plan


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=version.shown_by("vbrlab"), is_eager=True, help="show the version and exit"),
    ] = False,
) -> None:
    pass


@app.command("list")
def list_scenarios(as_json: Json = False) -> None:
    """The scenarios that can be brought up."""
    import topologies

    found = {name: topologies.load(name).TITLE for name in topologies.SCENARIOS}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, title in found.items():
        typer.echo(f"{name:16} {title}")


@app.command(short_help="Holds a scenario or a document against the rules.")
def validate(
    name: Source,
    was: Annotated[
        str | None,
        typer.Option("--was", metavar="NAME|FILE", help="what it was before: edits that are refused are named"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Holds a scenario or a YAML document against the documents' rules. Nothing is started."""
    import topologies
    from harness import documents
    from harness.cloud.edits import edits
    from harness.cloud.findings import Finding, Severity

    def resources(of: str) -> Any:
        return _scenario(of).estate() if of in topologies.SCENARIOS else _document(of).estate

    findings: Sequence[Finding]
    if name in topologies.SCENARIOS:
        findings = _scenario(name).findings()
    else:
        findings = _document(name).findings
    if was is not None:
        findings = [*edits(resources(was), resources(name)), *findings]
    typer.echo(documents.as_json(name, findings) if as_json else documents.as_text(name, findings))
    raise typer.Exit(1 if any(finding.severity is Severity.ERROR for finding in findings) else 0)


@app.command()
def schema(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="one kind of document (default: all)")] = None,
) -> None:
    """JSON Schema of the YAML documents, for editors."""
    from harness.cloud import document
    from harness.cloud.document_kinds import KINDS

    if kind is not None and kind not in KINDS:
        _fail(f"no kind of document {kind!r}; there are {', '.join(KINDS)}", 2)
    typer.echo(json.dumps(document.schema([KINDS[kind]] if kind else KINDS.values()), indent=1))


def _with_devices(name: str) -> tuple[Any, Plan]:
    """The resources and the lab of a scenario, or of a document without errors, whose tunnels lead to gateway devices."""
    import topologies
    from harness.cloud.ends import with_tunnels

    if name in topologies.SCENARIOS:
        whole, plan = _scenario(name).estate(), _scenario(name).plan()
    else:
        document = _document(name)
        whole, plan = document.estate, _plan_of_document(name, document)
    estate = with_tunnels(whole)
    if estate is None:
        _fail(f"--scenario {name}: it has no IPsec connection; ipsec-ecmp and vpn-gateway have", 2)
    return estate, plan


def _made_up(name: str, estate: Any) -> list[str]:
    """The tunnels whose document has no key, so that each reading makes another: by two readings."""
    import topologies
    from harness.cloud.ends import ends_of, with_tunnels

    if name in topologies.SCENARIOS:
        return []
    again = with_tunnels(_document(name).estate)
    assert again is not None
    keys = {end.node: end.key for end in ends_of(again)}
    return [end.name for end in ends_of(estate) if keys[end.node] != end.key]


Scenario = Annotated[
    str, typer.Option("--scenario", metavar="NAME", help="a scenario (vbrlab list), or a document's file")
]


@app.command("peer-config", short_help="The configuration that a gateway device needs.")
def peer_config(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="an IPsec connection, or its node (vpn1)")],
    form: Annotated[str, typer.Option("--format", metavar="FORM", help="asa, strongswan, frr or json")] = "asa",
    scenario: Scenario = "ipsec-ecmp",
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="write it there, mode 0600")] = None,
) -> None:
    """What the gateway device at a connection's other end is to be configured with. The text holds the key."""
    from harness import peer_config as peers
    from harness.asa.render import NotRendered

    try:
        chosen = peers.Form(form)
    except ValueError:
        _fail(f"no format {form!r}; there are {', '.join(peers.Form)}", 2)
    estate, _ = _with_devices(scenario)
    try:
        found = peers.find(estate, connection)
        text = peers.render(found, chosen)
    except (peers.NoPeer, NotRendered) as error:
        _fail(error, 2)
    for tunnel in _made_up(scenario, estate):
        if tunnel in {peer.connection.name for peer in found}:
            typer.echo(
                f"{tunnel}: {scenario} has no key, and this one was made for this call; write it there as pre_shared_key",
                err=True,
            )
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        peers.save(text, output)
    except OSError as error:
        _fail(f"{output} cannot be written: {error.strerror}")
    typer.echo(f"{output} written, mode 0600: it holds the pre-shared key" if chosen != "frr" else f"{output} written")


@app.command(short_help="Runs gateway devices' own texts; names the line to blame.")
def device(
    file: Annotated[
        list[Path], typer.Option("--from-asa", metavar="FILE", help="a device's configuration as ASA text")
    ],
    check: Annotated[bool, typer.Option("--check", help="say what does not fit; starts nothing")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="show the route tables with the devices in them")] = False,
    scenario: Scenario = "ipsec-ecmp",
    connection: Annotated[
        str | None, typer.Option("--connection", metavar="NAME", help="if the text leaves it open")
    ] = None,
    as_json: Json = False,
) -> None:
    """Runs gateway devices as they are configured; where one does not work, names the line that is to blame. Exit status 1: it does not.

    Give --from-asa once for each device. With --check the text is held against the cloud's side instead, and nothing is started.
    """
    from harness import device_check, peer_config
    from harness.net import sandbox
    from harness.proving import verdict

    estate, plan = _with_devices(scenario)
    if random := _made_up(scenario, estate):
        _fail(f"{scenario} has no key for {', '.join(random)}: no device can know it; write pre_shared_key there", 2)
    try:
        if check:
            reports = [(p, r) for p in file for r in device_check.reports(estate, device_check.text_of(p), connection)]
        else:
            chosen = verdict.candidates(estate, file, connection)
    except (peer_config.NoPeer, device_check.Unreadable) as error:
        _fail(error, 2)
    if check:
        for path, report in reports:
            typer.echo(report.to_json() if as_json else report.to_text(path))
        raise typer.Exit(0 if all(report.fits for _, report in reports) else 1)
    if not sandbox.inside():
        _enter_sandbox(plan.name)
    from harness.up import try_devices

    raise typer.Exit(try_devices(plan, chosen, tables=tables, as_json=as_json))


@app.command(short_help="Brings a scenario or a document up, with a prompt.")
def up(
    name: Source,
    seed: Annotated[int, typer.Option(help="seed of the nodes' hash seeds")] = 1,
    check: Annotated[bool, typer.Option("--check", help="check tables or sessions, and pings, then end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --check: print the result as one line of JSON")] = False,
    device: Annotated[
        list[str] | None, typer.Option("--device", metavar="NODE=FILE", help="run this ASA text in a device's place")
    ] = None,
    speaker: Annotated[
        list[str] | None,
        typer.Option("--speaker", metavar="[NODE=]DAEMON", help="frr, bird, gobgp or exabgp in our speaker's place"),
    ] = None,
    dataplane: Annotated[
        str | None, typer.Option("--dataplane", metavar="PLANE", help="xfrm or libipsec encrypts, and no other")
    ] = None,
) -> None:
    """Brings a scenario or a YAML document up and gives a prompt inside; Ctrl-D ends it and leaves nothing.

    With a document, --speaker DAEMON is for its data centres.
    """
    import topologies
    from harness.net import sandbox

    if as_json and not check:
        _fail("--json goes with --check; leave one out or add the other", 2)
    if dataplane is not None and not sandbox.inside():
        _force(dataplane)
    if name not in topologies.SCENARIOS:
        _up_document(name, speaker or [], seed=seed, check=check, as_json=as_json, device=device)
    chosen = _devices(_scenario(name), device) if device else ()
    wanted = _speakers(_scenario(name).plan(), speaker) if speaker else ()
    if not sandbox.inside():
        _enter_sandbox(name)
    from harness.up import up as bring_up

    began = float(os.environ.get(_STARTED, started_at()))
    raise typer.Exit(
        bring_up(name, seed=seed, check=check, as_json=as_json, entered=began, devices=chosen, speakers=wanted)
    )


def _force(plane: str) -> None:
    """Has the lab encrypt by one data plane; fails with the probe's reason where that is not there."""
    from harness.ipsec.strongswan import DataPlane
    from harness.lab import DATA_PLANE
    from harness.probe import probe

    if plane not in list(DataPlane):
        _fail(f"no data plane {plane!r}; there are {', '.join(DataPlane)}", 2)
    choice = probe().dataplane(DataPlane(plane))
    if choice.plane is None:
        _fail(f"--dataplane {plane}: {choice.reason}; vbrlab doctor says what to do", 2)
    os.environ[DATA_PLANE] = plane


def _speakers(plan: Plan, words: list[str]) -> tuple[Wish, ...]:
    """The wishes of ``--speaker``, refused here where the plan cannot have them."""
    from harness import speakers

    try:
        found = speakers.wishes(words)
        speakers.chosen(plan, found)
    except (speakers.UnknownSpeaker, speakers.NotSuited) as error:
        _fail(error, 2)
    return found


def _up_document(
    path: str, speaker: list[str], *, seed: int, check: bool, as_json: bool, device: list[str] | None
) -> NoReturn:
    from harness.net import sandbox

    if device:
        _fail("--device goes with a scenario that has devices: vbrlab up ipsec-ecmp --device ...", 2)
    if path == "-":
        _fail("a document that is brought up must be a file: vbrlab up FILE", 2)
    plan, document = _plan_of(path), _document(path)
    from harness import up_document

    wanted = _speakers(plan, up_document.at_data_centres(plan, speaker)) if speaker else ()
    if not sandbox.inside():
        for finding in document.warnings:
            typer.echo(f"{path}:{finding.place}: {finding}", err=True)
        _enter_sandbox(plan.name)

    began = float(os.environ.get(_STARTED, started_at()))
    up_now = partial(up_document.up_document, document, plan, wanted, entered=began)
    raise typer.Exit(up_now(seed=seed, check=check, as_json=as_json))


def _devices(scenario: Any, given: list[str]) -> Any:
    from harness import device_check
    from harness.proving import verdict

    try:
        return tuple(
            each
            for file, connection in device_check.meant(scenario.estate(), given)
            for each in verdict.candidates_of(scenario.estate(), device_check.text_of(file), file, connection)
        )
    except device_check.Unreadable as error:
        _fail(error, 2)


def _enter_sandbox(name: str) -> NoReturn:
    from harness.net import sandbox

    argv = [sys.executable, "-m", "harness.cli", *sys.argv[1:]]
    sandbox.reexec(argv, name=name, env={_STARTED: str(started_at())})


@app.command(
    "exec",
    short_help="Runs a command in a node of a running lab.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def execute(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a running lab, or NAME-PID where several run")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="one of its nodes")],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="the command to run there")],
) -> None:
    """Runs a command in a node of a lab that is up in another terminal; exits with its status."""
    from harness.net import sandbox

    try:
        raise typer.Exit(sandbox.join(name, node, command))
    except sandbox.JoinError as error:
        _fail(error)


@app.command(short_help="Traffic and states of a running lab's IPsec connections.")
def monitor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a running lab, or NAME-PID where several run")],
    as_json: Json = False,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="print Prometheus metrics")] = False,
    count: Annotated[int, typer.Option(min=1, help="how many readings")] = 1,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="between two readings")] = 1.0,
) -> None:
    """Traffic, SA and BGP state of a running lab's IPsec connections, as in the console's Monitor tab. Exit status 1: it has none."""
    from harness.net import sandbox

    argv = [sys.executable, "-m", "harness.monitor", "--count", str(count), "--interval", str(interval)]
    argv += ["--json"] * as_json + ["--prometheus"] * prometheus
    try:
        raise typer.Exit(sandbox.join(name, None, argv))
    except sandbox.JoinError as error:
        _fail(error)


@app.command()
def capture(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a running lab")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="one of its nodes")],
    interface: Annotated[str, typer.Argument(metavar="IF", help="an interface of the node")],
    write: Annotated[Path, typer.Option("-w", metavar="FILE", help="the file to write, in pcapng form")],
) -> None:
    """Captures on an interface of a running lab until Ctrl-C."""
    from harness.net import sandbox

    argv = [sys.executable, "-m", "harness.capture", node, interface, str(write.resolve())]
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        raise typer.Exit(sandbox.join(name, node, argv))
    except sandbox.JoinError as error:
        _fail(error)
    finally:
        signal.signal(signal.SIGINT, previous)


@app.command(short_help="Sequence charts of the BGP sessions of a capture.")
def sequence(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a capture, pcap or pcapng")],
    decoded: Annotated[bool, typer.Option("--decode", "-d", help="all fields of every message")] = False,
    whole: Annotated[bool, typer.Option("--all", "-a", help="also what lies between start and end")] = False,
    number: Annotated[
        int | None, typer.Option("--session", "-n", min=1, help="only that connection of the file")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="TCP port of BGP")] = 179,
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="write one connection as SVG there")] = None,
    as_json: Json = False,
) -> None:
    """How the BGP sessions of a capture start and end, as sequence charts."""
    from dataclasses import asdict

    from harness.capture.pcapng import NotACapture
    from harness.sequence import chart

    try:
        found = chart.of_file(file, port)
    except (OSError, NotACapture) as error:
        _fail(f"{file}: {error.strerror if isinstance(error, OSError) else error}")
    if not found:
        _fail(f"{file}: no TCP connection of port {port}; if BGP has another one, say --port")
    if number is not None and number > len(found):
        _fail(f"{file} has {len(found)} connections; there is no number {number}", 2)
    chosen = found if number is None else [found[number - 1]]
    shown = chosen if whole else [chart.folded(each) for each in chosen]
    if output is not None:
        _draw_sequence(file, shown, output)
    elif as_json:
        typer.echo(json.dumps([asdict(each) for each in shown]))
    else:
        typer.echo("\n\n".join("\n".join(chart.lines(each, decoded=decoded)) for each in shown))


def _draw_sequence(file: Path, shown: list[Any], output: Path) -> None:
    from harness.evidence import sequence_of
    from reports import sequence as pictures
    from reports import svg

    if len(shown) > 1:
        _fail(f"{file} has {len(shown)} connections; a drawing shows one, say --session 1 to {len(shown)}", 2)
    item = sequence_of(shown[0], f"{' and '.join(shown[0].ends)}, from {file.name}")
    _write(output, svg.standalone(pictures.draw(item)))


@app.command(short_help="The topology, as text (DOT language) or as SVG.")
def graph(
    name: Source,
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="write an SVG drawing there")] = None,
) -> None:
    """The topology: as text (DOT language), or drawn as SVG with -o."""
    from harness.evidence import topology_of

    plan = _plan_of(name)
    drawing = topology_of(plan, plan.title)
    if output is not None:
        from reports import drawing as pictures

        _write(output, pictures.standalone(drawing))
        return
    typer.echo(f'graph "{plan.name}" {{')
    for node in drawing.nodes:
        typer.echo(f'  "{node["name"]}" [label="{node["name"]}\\n{node["label"]}"];')
    for link in drawing.links:
        label = "\\n".join(filter(None, (f"{link['a_if']} - {link['b_if']}", link.get("impairment", ""))))
        typer.echo(f'  "{link["a"]}" -- "{link["b"]}" [label="{label}"];')
    for tunnel in drawing.tunnels:
        typer.echo(f'  "{tunnel["a"]}" -- "{tunnel["b"]}" [style=dashed, label="IPsec"];')
    typer.echo("}")


@app.command(short_help="What labs need of this machine, and what is missing.")
def doctor(as_json: Json = False) -> None:
    """What labs need of this machine: each feature tried, what it is for, what happens without it, the remedy."""
    from harness import probe
    from harness.net import sandbox

    findings = probe.probe()
    refused = sandbox.refusal()
    if as_json:
        typer.echo(findings.to_json())
    else:
        typer.echo("\n".join(probe.lines(findings)))
        typer.echo(f"  sandbox: {refused or 'can be made'}")
    required = [finding for finding in findings.values() if finding.feature.required and not finding.ok]
    raise typer.Exit(1 if required or refused or findings.dataplane().plane is None else 0)


@chart_app.command("ecmp")
def chart_ecmp(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="folder of a run (default: the latest)")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="where to (default: charts/ in the run)")
    ] = None,
) -> None:
    """The load distribution and fail-over charts of a run, as SVG and PNG."""
    from reports import charts
    from reports.model import RunFolder

    folder = run or _latest_run()
    written = charts.ecmp(RunFolder(folder), out or folder / "charts")
    if not written:
        _fail(f"{folder} has no load distribution or fail-over; run the labs first: ./run labs -k ecmp")
    for path in written:
        typer.echo(str(path))


def _latest_run() -> Path:
    runs = sorted(Path("reports/out").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    if not runs:
        _fail("no run below reports/out; run the labs first: ./run labs -k ecmp")
    return runs[-1].parent


def main() -> None:
    """The command."""
    app()


if __name__ == "__main__":
    main()
