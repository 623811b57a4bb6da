"""``vbrlab-bgp``: asks a running speaker over its control socket, and tells it what to change.

Exit status: 0 done, 1 the speaker refused (the reason is on stderr), 2 wrong usage, 3 no speaker serves the socket.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import version
from harness.bgp import cli_mrt, log_lines, render
from harness.control import ControlClosed, ControlError, call, follow

REFUSED, NOBODY_THERE = 1, 3

app = typer.Typer(
    no_args_is_help=True,
    help="Ask a running BGP speaker, and change what it does. Colours are left out where NO_COLOR is set.",
)
show = typer.Typer(no_args_is_help=True, help="What the speaker knows.")
network = typer.Typer(no_args_is_help=True, help="Blocks that the speaker announces.")
neighbor = typer.Typer(no_args_is_help=True, help="Neighbours.")
app.add_typer(show, name="show")
app.add_typer(network, name="network")
policy = typer.Typer(no_args_is_help=True, help="Policies of neighbours.")
app.add_typer(neighbor, name="neighbor")
app.add_typer(policy, name="policy")

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


class TableName(StrEnum):
    """What ``show routes`` reads."""

    LOC = "loc"
    IN = "in"
    OUT = "out"


class Direction(StrEnum):
    """What ``clear`` applies anew."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


class PolicyDirection(StrEnum):
    """Which of a neighbour's two policies."""

    IMPORT = "import"
    EXPORT = "export"


@app.callback()
def main_options(
    context: typer.Context,
    socket: Annotated[
        Path | None, typer.Option("--socket", "-S", envvar="VBRLAB_BGP_SOCKET", help="Control socket of the speaker.")
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version.shown_by("vbrlab-bgp"), is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    context.obj = socket


def _socket(context: typer.Context) -> Path:
    if context.obj is None:
        raise typer.BadParameter("which speaker? Name its control socket: --socket FILE, or VBRLAB_BGP_SOCKET")
    return Path(context.obj)


def _ask(context: typer.Context, method: str, **params: Any) -> Any:
    return call(_socket(context), method, **params)


def _print(result: Any, as_json: bool, form: Callable[..., str]) -> None:
    if as_json:
        print(json.dumps(result, indent=2))
        return
    # no-color.org: whatever its value, unless it is empty.
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(form(result, color=color))


def _complete(method: str, key: Callable[[Any], list[str]]) -> Callable[[typer.Context, str], list[str]]:
    """Words for the shell: what the speaker knows now. Without a speaker there are none."""

    def words(context: typer.Context, incomplete: str) -> list[str]:
        socket = context.find_root().params.get("socket")
        try:
            return (
                [w for w in key(call(Path(socket), method, within=1.0)) if w.startswith(incomplete)] if socket else []
            )
        except (ControlError, OSError):
            return []

    return words


_NEIGHBORS = _complete("show.summary", lambda answer: [row["name"] for row in answer["neighbors"]])
_NETWORKS = _complete("show.summary", lambda answer: list(answer["networks"]))
NeighborName = Annotated[str, typer.Argument(help="Name or address of the neighbour.", autocompletion=_NEIGHBORS)]


@show.command("summary")
def show_summary(context: typer.Context, as_json: Json = False) -> None:
    """The speaker and a line for each neighbour."""
    _print(_ask(context, "show.summary"), as_json, render.summary)


@show.command("neighbors")
def show_neighbors(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Name or address of one neighbour.", autocompletion=_NEIGHBORS)
    ] = None,
    as_json: Json = False,
) -> None:
    """State, timers, counters, capabilities and last errors of the neighbours."""
    _print(_ask(context, "show.neighbors", name=name), as_json, render.neighbors)


@show.command("routes")
def show_routes(
    context: typer.Context,
    prefix: Annotated[str | None, typer.Argument(help="Only this prefix.")] = None,
    table: Annotated[TableName, typer.Option(help="Chosen routes, received ones, or announced ones.")] = TableName.LOC,
    peer: Annotated[
        str | None, typer.Option(help="Only from (loc, in) or to (out) this neighbour.", autocompletion=_NEIGHBORS)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Of a very large table only so many prefixes.")] = None,
    best: Annotated[bool, typer.Option("--best", help="Of each prefix only the best path.")] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Only received paths that were refused, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Routes with all their paths; each path that is not the best says why."""
    if best and (rejected or table is not TableName.LOC):
        raise typer.BadParameter("only chosen routes have a best path; leave --rejected and --table out")
    chosen = TableName.IN if rejected else table
    rows = _ask(context, "show.routes", table=chosen.value, peer=peer, prefix=prefix, limit=limit)
    if best or rejected:
        kept = [row | {"paths": [p for p in row["paths"] if p.get("best") or "rejected" in p]} for row in rows]
        rows = [row for row in kept if row["paths"]]
    _print(rows, as_json, render.routes)


@show.command("why")
def show_why(context: typer.Context, prefix: str, as_json: Json = False) -> None:
    """One prefix: who offers it, which path is used and why no other, who is told of it and who is not."""
    _print(_ask(context, "show.why", prefix=prefix), as_json, render.why)


@show.command("fib")
def show_fib(context: typer.Context, as_json: Json = False) -> None:
    """What the speaker has in the kernel."""
    _print(_ask(context, "show.fib"), as_json, render.fib)


@show.command("nexthops")
def show_nexthops(context: typer.Context, as_json: Json = False) -> None:
    """The next hops of all paths and how the kernel reaches them."""
    _print(_ask(context, "show.nexthops"), as_json, render.next_hops)


@show.command("monitors")
def show_monitors(context: typer.Context, as_json: Json = False) -> None:
    """Who looks on: BMP stations, MRT dumps, the place of the metrics."""
    _print(_ask(context, "show.monitors"), as_json, render.monitors)


@show.command("config")
def show_config(context: typer.Context) -> None:
    """The running configuration as JSON, keys masked."""
    print(json.dumps(_ask(context, "show.config"), indent=2))


@show.command("events")
def show_events(
    context: typer.Context,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more; Ctrl-C ends it.")] = False,
    since: Annotated[int, typer.Option(help="Only events after this number.")] = 0,
    peer: Annotated[
        str | None, typer.Option(help="Only those of this neighbour, by name.", autocompletion=_NEIGHBORS)
    ] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only of this type: fsm, notification, rib, ...")] = None,
    as_json: Json = False,
) -> None:
    """The events kept so far, one a line."""
    last = None if follow_on else _ask(context, "events.last")
    if last is not None and last <= since:
        return
    for event in follow(_socket(context), since):
        if peer in (None, event.get("peer")) and kind in (None, event["type"]):
            print(json.dumps(event) if as_json else log_lines.line(event), flush=True)
        if last is not None and event["seq"] >= last:
            break


@network.command("add")
def network_add(
    context: typer.Context,
    prefix: str,
    require_route: Annotated[
        bool, typer.Option(help="Only while the kernel has a route to exactly this block.")
    ] = False,
) -> None:
    """Announce a block."""
    print(_ask(context, "network.add", prefix=prefix, require_route=require_route))


@network.command("delete")
def network_delete(context: typer.Context, prefix: Annotated[str, typer.Argument(autocompletion=_NETWORKS)]) -> None:
    """Withdraw a block."""
    print(_ask(context, "network.delete", prefix=prefix))


NeighborFile = Annotated[typer.FileText, typer.Argument(help="File with the neighbour's JSON object, - for stdin.")]


def _fields(config: typer.FileText) -> Any:
    try:
        return json.load(config)
    except json.JSONDecodeError as error:
        raise ControlError(f"{config.name}, line {error.lineno}: no JSON: {error.msg}") from None


@neighbor.command("add")
def neighbor_add(context: typer.Context, config: NeighborFile) -> None:
    """Add a neighbour; fields as in the configuration file."""
    print(_ask(context, "neighbor.add", **_fields(config)))


@neighbor.command("change")
def neighbor_change(context: typer.Context, config: NeighborFile) -> None:
    """Give the neighbour of that name a new configuration; its session is reset only where it must be."""
    _print_changed(_ask(context, "neighbor.change", **_fields(config)))


def _print_changed(answer: dict[str, Any]) -> None:
    print("\n".join(f"{field}: {effect}" for field, effect in answer["changed"].items()) or "nothing differs")


@neighbor.command("set")
def neighbor_set(
    context: typer.Context,
    name: NeighborName,
    fields: Annotated[list[str], typer.Argument(help="FIELD=VALUE as in the configuration file; values as JSON.")],
) -> None:
    """Change single fields of a neighbour: `neighbor set gw1 hold_time=30 families='["ipv4","ipv6"]'`. Not for keys."""
    given = {}
    for text in fields:
        field, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}: write FIELD=VALUE")
        if field == "key":
            raise typer.BadParameter("a key on the command line is seen by others; use: neighbor key NAME")
        try:
            given[field] = json.loads(value)
        except json.JSONDecodeError:
            given[field] = value
    _print_changed(_ask(context, "neighbor.set", name=name, fields=given))


@neighbor.command("key")
def neighbor_key(
    context: typer.Context,
    name: NeighborName,
    remove: Annotated[bool, typer.Option("--remove", help="Sign no longer.")] = False,
) -> None:
    """Give a neighbour another TCP MD5 key, read from standard input; a session that stands goes on."""
    _print_changed(
        _ask(context, "neighbor.set", name=name, fields={"key": None if remove else _key(), "key_file": None})
    )


def _key() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("key", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


@policy.command("set")
def policy_set(
    context: typer.Context,
    name: NeighborName,
    direction: Annotated[PolicyDirection, typer.Argument(help="Received routes, or announced ones.")],
    rules: Annotated[typer.FileText, typer.Argument(help="File with a JSON list of terms, - for stdin.")],
) -> None:
    """Give a neighbour another policy. Routes that are there already follow at a soft clear (BGP-7)."""
    print(_ask(context, "policy.set", name=name, direction=direction.value, rules=_fields(rules)))


@neighbor.command("delete")
def neighbor_delete(context: typer.Context, name: NeighborName) -> None:
    """End the session (Cease/3) and forget the neighbour."""
    print(_ask(context, "neighbor.delete", name=name))


@neighbor.command("shutdown")
def neighbor_shutdown(
    context: typer.Context, name: NeighborName, text: Annotated[str, typer.Option(help="Told to the neighbour.")] = ""
) -> None:
    """End the session (Cease/2) and stay down."""
    print(_ask(context, "neighbor.shutdown", name=name, text=text))


@neighbor.command("drain")
def neighbor_drain(
    context: typer.Context,
    name: str,
    undo: Annotated[bool, typer.Option("--undo", help="Use the session in full again.")] = False,
) -> None:
    """Graceful shutdown (RFC 8326): move traffic off the session before it goes, with GRACEFUL_SHUTDOWN and LOCAL_PREF 0."""
    print(_ask(context, "neighbor.drain", name=name, draining=not undo))


@neighbor.command("start")
def neighbor_start(context: typer.Context, name: NeighborName) -> None:
    """Begin again after a shutdown."""
    print(_ask(context, "neighbor.start", name=name))


@app.command("clear")
def clear(
    context: typer.Context,
    name: NeighborName,
    soft: Annotated[Direction | None, typer.Option(help="Keep the session; apply the policies anew.")] = None,
    stored: Annotated[bool, typer.Option(help="Soft in: use the routes kept instead of asking for them.")] = False,
) -> None:
    """Reset a session (Cease/4), or with --soft apply the policies anew."""
    if soft is None:
        print(_ask(context, "neighbor.reset", name=name))
    else:
        print(_ask(context, "clear.soft", name=name, direction=soft.value, stored=stored))


@app.command("reload")
def reload_config(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Configuration to take over; default: the file it was started with.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: Json = False,
) -> None:
    """Check a configuration, show what differs from the running one, and change just that."""
    path = None if file is None else str(file.absolute())
    _print(_ask(context, "config.reload", file=path, dry_run=dry_run), as_json, render.reload_answer)


@app.command("dump")
def dump(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="The file to write, on the speaker's machine.")]
) -> None:
    """Have the speaker write its table now, as an MRT file (TABLE_DUMP_V2)."""
    print(_ask(context, "mrt.table", file=str(file.absolute())))


app.command("mrt")(cli_mrt.print_file)
app.command("feed")(cli_mrt.feed)


def main() -> None:
    """The command."""
    try:
        app()
    except ControlClosed as error:
        sys.stderr.write(f"vbrlab-bgp: {error}\n")
        raise SystemExit(NOBODY_THERE) from None
    except ControlError as error:
        sys.stderr.write(f"vbrlab-bgp: {error}\n")
        raise SystemExit(REFUSED) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
