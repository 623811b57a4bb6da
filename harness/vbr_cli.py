"""``vbrlab vbr``: the console of a virtual border router in a running lab, from another terminal.

The lab keeps the resources and judges every change (``harness.cloud_control``); this is its form on the command line. A key is read from a
file or from the terminal, never from an argument, which every user of the machine could read.

Exit status: 0 done, 1 refused, or no such lab; 2 wrong usage.
"""

from __future__ import annotations

import getpass
import json
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from harness.control import ControlError, call, follow

app = typer.Typer(
    name="vbr",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="The console of the virtual border router in a running lab: groups, peers, networks, status, events, alerts.",
)
group_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="BGP groups.")
peer_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="BGP peers.")
network_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Advertised BGP networks.")
ecr_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The Express Connect Router.")
for _name, _app in (("group", group_app), ("peer", peer_app), ("network", network_app), ("ecr", ecr_app)):
    app.add_typer(_app, name=_name)

#: A lab that is looked at without having been named may be one that opens no door, such as a run of pytest.
_LOOK_WITHIN = 0.3

LabName = Annotated[
    str | None, typer.Option("--lab", metavar="NAME", help="which running lab (default: the one with a VBR)")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Group = Annotated[str, typer.Argument(metavar="NAME", help="name of the BGP group")]
Ip = Annotated[str, typer.Argument(metavar="IP", help="address of the BGP peer")]
Cidr = Annotated[str, typer.Argument(metavar="CIDR", help="a block of the VPC, such as 172.16.0.0/16")]
Protocol = Annotated[str | None, typer.Option("--protocol", metavar="IPv4|IPv6", help="address family of its peers")]
PeerAsn = Annotated[int | None, typer.Option("--peer-asn", metavar="ASN", help="ASN of the data centre")]
KeyFile = Annotated[
    str | None,
    typer.Option("--key-file", metavar="FILE", help='the BGP key is in this file; "-": ask, or standard input'),
]
Quota = Annotated[int | None, typer.Option("--route-quota", metavar="N", help="most routes taken from a peer")]
QuotaAction = Annotated[
    str | None, typer.Option("--route-quota-action", metavar="drop|teardown", help="what happens over the quota")
]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="free text")]
Bfd = Annotated[bool | None, typer.Option("--bfd/--no-bfd", help="BFD beside the session")]
HopCount = Annotated[
    int | None,
    typer.Option("--bfd-hop-count", metavar="N", help="most devices on the way, 1 to 255; 1 on a direct line"),
]


@group_app.command("create")
def group_create(
    name: Group,
    peer_asn: Annotated[int, typer.Option("--peer-asn", metavar="ASN", help="ASN of the data centre")],
    protocol: Protocol = None,
    key_file: KeyFile = None,
    route_quota: Quota = None,
    route_quota_action: QuotaAction = None,
    description: Description = None,
    local_asn: Annotated[
        int | None, typer.Option("--local-asn", metavar="ASN", help="ASN of the cloud's side; privileged accounts only")
    ] = None,
    lab: LabName = None,
    as_json: Json = False,
) -> None:
    """Creates a BGP group (step 1)."""
    fields = _given(
        peer_asn=peer_asn,
        protocol=protocol,
        key=_key(key_file),
        route_quota=route_quota,
        route_quota_action=route_quota_action,
        description=description,
        local_asn=local_asn,
    )
    _act(lab, as_json, "group.create", name=name, **fields)


@group_app.command("modify", short_help="Modifies a BGP group.")
def group_modify(
    name: Group,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NEW", help="its new name")] = None,
    peer_asn: PeerAsn = None,
    protocol: Protocol = None,
    key_file: KeyFile = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="take its key away")] = False,
    route_quota: Quota = None,
    route_quota_action: QuotaAction = None,
    description: Description = None,
    local_asn: Annotated[
        int | None, typer.Option("--local-asn", metavar="ASN", help="cannot be edited: says what to do instead")
    ] = None,
    lab: LabName = None,
    as_json: Json = False,
) -> None:
    """Modifies a BGP group; what its peers' sessions need is done to them."""
    if no_key and key_file is not None:
        _fail("--key-file and --no-key contradict each other; give one", 2)
    changes = _given(
        name=new_name,
        peer_asn=peer_asn,
        protocol=protocol,
        key=_key(key_file),
        route_quota=route_quota,
        route_quota_action=route_quota_action,
        description=description,
        local_asn=local_asn,
    )
    _act(lab, as_json, "group.modify", name=name, changes=_something({**changes, **({"key": None} if no_key else {})}))


@group_app.command("delete")
def group_delete(name: Group, lab: LabName = None, as_json: Json = False) -> None:
    """Deletes a BGP group that has no peers."""
    _act(lab, as_json, "group.delete", name=name)


@group_app.command("list")
def group_list(lab: LabName = None, as_json: Json = False) -> None:
    """The BGP groups."""
    columns = ("name", "protocol", "peer_asn", "local_asn", "key", "route_quota", "route_quota_action", "description")
    _table(_ask(lab, "group.list"), columns, as_json, "no BGP group; vbrlab vbr group create makes one")


@peer_app.command("create")
def peer_create(
    ip: Ip,
    group: Annotated[str, typer.Option("--group", metavar="NAME", help="its BGP group")],
    bfd: Bfd = None,
    bfd_hop_count: HopCount = None,
    lab: LabName = None,
    as_json: Json = False,
) -> None:
    """Creates a BGP peer in a group (step 2)."""
    _act(lab, as_json, "peer.create", ip=ip, **_given(group=group, bfd=bfd, bfd_hop_count=bfd_hop_count))


@peer_app.command("modify")
def peer_modify(
    ip: Ip,
    group: Annotated[str | None, typer.Option("--group", metavar="NAME", help="move it to this BGP group")] = None,
    new_ip: Annotated[str | None, typer.Option("--ip", metavar="NEW", help="its new address")] = None,
    bfd: Bfd = None,
    bfd_hop_count: HopCount = None,
    lab: LabName = None,
    as_json: Json = False,
) -> None:
    """Modifies a BGP peer."""
    changes = _given(group=group, ip=new_ip, bfd=bfd, bfd_hop_count=bfd_hop_count)
    _act(lab, as_json, "peer.modify", ip=ip, changes=_something(changes))


@peer_app.command("delete")
def peer_delete(ip: Ip, lab: LabName = None, as_json: Json = False) -> None:
    """Deletes a BGP peer; its session ends with Cease/3."""
    _act(lab, as_json, "peer.delete", ip=ip)


@peer_app.command("list")
def peer_list(lab: LabName = None, as_json: Json = False) -> None:
    """The BGP peers with their status; the same as status."""
    status(lab, as_json)


@network_app.command("add")
def network_add(cidr: Cidr, lab: LabName = None, as_json: Json = False) -> None:
    """Advertises a block of the VPC to the data centres (step 3)."""
    _act(lab, as_json, "network.add", cidr=cidr)


@network_app.command("delete")
def network_delete(cidr: Cidr, lab: LabName = None, as_json: Json = False) -> None:
    """Withdraws an advertised block."""
    _act(lab, as_json, "network.delete", cidr=cidr)


@network_app.command("list")
def network_list(lab: LabName = None, as_json: Json = False) -> None:
    """The advertised blocks."""
    rows = [{"network": cidr} for cidr in _ask(lab, "network.list")]
    _table(rows, ("network",), as_json, "no BGP network; vbrlab vbr network add makes one")


@ecr_app.command("associate")
def ecr_associate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="an ECR of the lab")],
    lab: LabName = None,
    as_json: Json = False,
) -> None:
    """Associates the VBR with an ECR, before BGP is configured."""
    _act(lab, as_json, "ecr.associate", name=name)


@app.command(short_help="The details page: MP-BGP, IPv6, ECR.")
def details(lab: LabName = None, as_json: Json = False) -> None:
    """The details page: does the port support MP-BGP, is IPv6 enabled, which ECR."""
    found = _ask(lab, "details")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name:30} {value}")


@app.command()
def status(lab: LabName = None, as_json: Json = False) -> None:
    """Each BGP peer with its status: one of the console's seven."""
    rows = _ask(lab, "status")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        row["routes"] = f"{row['routes']} of {row['quota']}{' (exceeded)' if row['over_quota'] else ''}"
        row["uptime"] = "" if row["uptime"] is None else f"{row['uptime']:.1f} s"
        if row["bfd_hop_count"] is not None:
            row["bfd"] = f"{row['bfd']} ({row['bfd_hop_count']})"
    columns = ("peer", "group", "peer_asn", "local_asn", "circuit", "status", "uptime", "routes", "bfd", "reason")
    _table(rows, columns, False, "no BGP peer; vbrlab vbr peer create makes one")


@app.command()
def events(
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="go on with each new one until Ctrl-C")] = False,
    lab: LabName = None,
    as_json: Json = False,
) -> None:
    """The console's events of the BGP peers, and what became of them."""
    _tell_happened(lab, follow_, "event", json.dumps if as_json else _event_line)


@app.command()
def alerts(
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="go on with each new one until Ctrl-C")] = False,
    lab: LabName = None,
    as_json: Json = False,
) -> None:
    """The alerts that the rules raised, and their delivery."""
    _tell_happened(lab, follow_, "alert", json.dumps if as_json else _alert_line)


def _tell_happened(lab: str | None, follow_: bool, kind: str, line: Callable[[dict[str, Any]], str]) -> None:
    """Prints those so far; if asked, each new one too, until the lab ends, or quietly until Ctrl-C, also one in the midst of a line."""
    if not follow_:
        found = _ask(lab, f"{kind}s")
        if not found:
            typer.echo(f"no {kind}s so far", err=True)
        for one in found:
            typer.echo(line(one))
        return
    try:
        with _connection(lab) as connection:
            for event in follow(connection):
                if event["type"] == kind:
                    typer.echo(line(event["shown"]))
    except (KeyboardInterrupt, ConnectionError):
        raise typer.Exit(0) from None


def _event_line(event: dict[str, Any]) -> str:
    if event.get("cleared"):
        return f"{event['eventTime']}  {'cleared':8}  {event['name']:27}  peer={event['peer']} ({event['reason']})"
    content = " ".join(f"{name}={value}" for name, value in event["content"].items() if name not in ("vbr", "reason"))
    reason = f" ({event['content']['reason']})" if "reason" in event["content"] else ""
    return f"{event['eventTime']}  {event['level']:8}  {event['name']:27}  {content}{reason}"


def _alert_line(alert: dict[str, Any]) -> str:
    """The time, what became of the alert, its rule; then what is known of it, without the body."""
    known = ("time", "what", "rule", "event", "alert_body", "body")
    rule = f"{alert['rule']}: " if "rule" in alert else ""
    rest = " ".join(f"{k}={v}" for k, v in alert.items() if k not in known and v not in (None, "", [], {}))
    return f"{alert['time']}  {alert['what']:15}  {rule}{rest}"


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that were given on the command line."""
    return {name: value for name, value in fields.items() if value is not None}


def _something(changes: dict[str, Any]) -> dict[str, Any]:
    if not changes:
        _fail("nothing to modify; name a field, see --help", 2)
    return changes


def _key(file: str | None) -> str | None:
    """The first line of the file; "-" asks a terminal without showing what is typed, or reads standard input."""
    if file is None:
        return None
    try:
        if file == "-":
            text = getpass.getpass("BGP key: ") if sys.stdin.isatty() else sys.stdin.readline()
        else:
            text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"the key's file {file} cannot be read: {getattr(error, 'strerror', None) or 'no UTF-8'}", 2)
    return text.rstrip("\r\n")


def _act(lab: str | None, as_json: bool, method: str, **params: Any) -> None:
    answer = _ask(lab, method, **params)
    if as_json:
        typer.echo(json.dumps(answer))
    for finding in [] if as_json else [*answer.get("refused", []), *answer.get("warnings", [])]:
        typer.echo(
            f"{finding['severity']}: {finding['object']}: {finding['rule']} ({finding['spec']}). {finding['remedy']}."
        )
    if "refused" in answer:
        raise typer.Exit(1)
    if not as_json:
        typer.echo(answer["done"])


def _ask(lab: str | None, method: str, **params: Any) -> Any:
    try:
        with _connection(lab) as connection:
            return call(connection, method, within=30.0, **params)
    except (ControlError, TimeoutError, ConnectionError) as error:
        _fail(f"the lab did not answer: {error}")


def _connection(name: str | None) -> socket.socket:
    """The control socket of the lab of that name, else of the only running lab that has a virtual border router."""
    from harness.net import door

    try:
        if name is not None:
            return door.control(door.find(name))
        found: list[tuple[str, socket.socket]] = []
        for lab in door.running():
            try:
                found.append((f"{lab.name}-{lab.pid}", door.control(lab, within=_LOOK_WITHIN)))
            except door.JoinError:
                continue
    except door.JoinError as error:
        _fail(error)
    if not found:
        _fail("no lab with a virtual border router is running; vbrlab up vbr, or vbrlab up FILE, starts one")
    if len(found) > 1:
        _fail(f"{len(found)} labs with a VBR are running; say --lab: {', '.join(each for each, _ in found)}", 2)
    return found[0][1]


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str], as_json: bool, empty: str) -> None:
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo(empty)
        return
    lines = [[column.replace("_", " ") for column in columns]]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _fail(text: object, status: int = 1) -> NoReturn:
    typer.echo(f"vbrlab: {text}", err=True)
    raise typer.Exit(status)
