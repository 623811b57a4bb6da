"""Answers of the speaker's ``show.*`` methods as text: pure functions from the result to what a network engineer expects to read.

Every function takes ``color`` and ``width`` (columns; the default never wraps) and returns lines without a final line break.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.bgp import reload

WIDE = 400
ORIGIN = {"igp": "i", "egp": "e", "incomplete": "?"}
STATE_STYLE = {"Established": "green", "Idle": "red"}

LEGEND = "* usable, > best, = multipath, r rejected; origin i IGP, e EGP, ? incomplete"


def summary(result: dict[str, Any], *, color: bool = False, width: int = WIDE) -> str:
    """``show.summary``."""
    head = f"BGP router identifier {result['router_id']}, local AS {result['asn']}"
    for name, title in (("prefixes", "prefixes"), ("kernel_routes", "routes in the kernel")):
        counts = ", ".join(f"{count} {family}" for family, count in result[name].items())
        head += f"\n{counts or 'no'} {title}"
    if result["networks"]:
        head += f"\nannounces {', '.join(result['networks'])}"
    table = _table(
        "Neighbor", "Address", "AS", "MsgRcvd", "MsgSent", "Up/Down", "State", "Rcvd", "Accepted", "Sent", "Last down"
    )
    for row in result["neighbors"]:
        state = f"{row['state']} (Admin)" if row["shutdown"] else row["state"]
        table.add_row(
            row["name"],
            row["address"],
            str(row["asn"]),
            str(row["messages_in"]),
            str(row["messages_out"]),
            _duration(row["uptime"]),
            Text(state, STATE_STYLE.get(row["state"], "yellow")),
            str(row["received"]),
            str(row["accepted"]),
            str(row["advertised"]),
            row["last_down"] or "",
        )
    return f"{head}\n\n{_text(table, color, width)}"


def routes(result: list[dict[str, Any]], *, color: bool = False, width: int = WIDE) -> str:
    """``show.routes``, any of its tables. The last column says why a path is not the best, or why it was rejected."""
    if not result:
        return "no routes"
    reasons = any("why_not" in path or "rejected" in path for row in result for path in row["paths"])
    table = _table("", "Network", "Next hop", "From", "Id", "MED", "LocPrf", "Path", *(["Reason"] if reasons else []))
    for row in result:
        for number, path in enumerate(_best_first(row["paths"])):
            cells = [
                Text(_marks(path), _mark_style(path)),
                row["prefix"] if not number else "",
                path["next_hop"] or ("::" if ":" in row["prefix"] else "0.0.0.0"),
                path.get("peer", ""),
                str(path["path_id"] or ""),
                "" if path["med"] is None else str(path["med"]),
                "" if path["local_pref"] is None else str(path["local_pref"]),
                f"{path['as_path']} {ORIGIN[path['origin']]}".strip() + _communities(path),
            ]
            if reasons:
                cells.append(path.get("rejected") or path.get("why_not", ""))
            table.add_row(*cells)
    paths = sum(len(row["paths"]) for row in result)
    return f"{LEGEND}\n\n{_text(table, color, width)}\n\n{len(result)} prefixes, {paths} paths"


def neighbors(result: list[dict[str, Any]], *, color: bool = False, width: int = WIDE) -> str:
    """``show.neighbors``."""
    return "\n\n".join(_neighbor(row, color, width) for row in result) or "no neighbours"


def _neighbor(row: dict[str, Any], color: bool, width: int) -> str:
    title = f"BGP neighbor is {row['address']} ({row['name']}), remote AS {row['asn']}, local AS {row['local_asn']}, {row['type']}"
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=False)
    table.add_column(overflow="fold")
    for label, value in _neighbor_lines(row):
        table.add_row(f"  {label}", value)
    return f"{title}\n{_text(table, color, width)}"


def _neighbor_lines(row: dict[str, Any]) -> Iterable[tuple[str, str | Text]]:
    if row["description"]:
        yield "Description", row["description"]
    yield "BGP state", Text(row["state"], STATE_STYLE.get(row["state"], "yellow"))
    if row["uptime"] is not None:
        yield "Up for", _duration(row["uptime"])
    if session := row["session"]:
        yield "Router id", session["router_id"]
        yield "Hold time", f"{session['hold_time']} s, keepalive every {session['keepalive']:g} s"
        yield "Families", ", ".join(session["families"])
        if session["add_path_receive"] or session["add_path_send"]:
            yield (
                "ADD-PATH",
                f"receive {', '.join(session['add_path_receive']) or 'no'}; send {', '.join(session['add_path_send']) or 'no'}",
            )
        yield "We offer", "; ".join(row["offered"]["sent"]) or "no capability"
        yield "It offers", "; ".join(row["offered"]["received"]) or "no capability"
        yield "In use", ", ".join(word for key, word in IN_USE.items() if session[key]) or "no extension"
    yield "Configured", "hold time {hold_time} s, ConnectRetryTime {connect_retry_time} s".format(**row["configured"])
    if row["timers"]:
        yield "Timers", ", ".join(f"{name} {left:g} s" for name, left in row["timers"].items())
    yield "Messages in", _counters(row["received_messages"], row["octets_received"])
    yield "Messages out", _counters(row["sent_messages"], row["octets_sent"])
    yield "Routes", f"{row['received']} received, {row['accepted']} accepted, {row['advertised']} announced"
    if row["draining"]:
        yield "Graceful shutdown", "drained: LOCAL_PREF 0 and GRACEFUL_SHUTDOWN both ways (RFC 8326)"
    if row["route_reflector_client"]:
        yield "Route reflection", "client"
    if limit := row.get("maximum_prefixes"):
        yield "Maximum prefixes", prefix_limit(limit)
    if restart := row.get("graceful_restart"):
        yield "Graceful restart", graceful_restart(restart, session)
    yield "Established", f"{row['established_count']} times, {row['transitions']} transitions"
    if row["ttl_security"] is not None:
        dropped = f"; {row['ttl_dropped']}" if "ttl_dropped" in row else ""
        yield "TTL security", f"at most {row['ttl_security']} hops away (RFC 5082){dropped}"
    if row["key"]:
        yield "TCP MD5", "a key is set" + (f"; {row['md5']}" if "md5" in row else "")
    if bfd := row.get("bfd"):
        yield "BFD", Text(bfd_line(bfd, row["address"]), "green" if bfd["state"] == "Up" else "red")
    for label, key in (("Last error sent", "last_sent_error"), ("Last error received", "last_received_error")):
        if error := row[key]:
            yield label, notification(error)
    if row["last_down"]:
        yield "Last down", row["last_down"]


def graceful_restart(row: dict[str, Any], session: dict[str, Any] | None) -> str:
    """What both sides offer, and the routes that are stale now."""
    parts = [row["mode"] + (f", {row['restart_time']} s" if row["mode"] == "full" else "")]
    if theirs := (session or {}).get("graceful_restart"):
        kept = (
            f"keeps {', '.join(theirs['families'])} for {theirs['restart_time']} s" if theirs["families"] else "helps"
        )
        parts.append(f"the neighbour {kept}{', with N bit' if theirs['notification'] else ''}")
    elif session:
        parts.append("not offered by the neighbour")
    if row["stale"]:
        counts = ", ".join(f"{count} {family}" for family, count in row["stale"].items())
        parts.append(f"{counts} routes are stale, for {row['stale_for']:g} s at most")
    return "; ".join(parts)


def prefix_limit(row: dict[str, Any]) -> str:
    """Maximum prefixes in one line: the limit, what happens beyond it, and how many there are."""
    after = f", begins again after {row['restart']:g} s" if row["restart"] is not None else ""
    counts = [f"{family} {n['count']}{' (over)' if n['over'] else ''}" for family, n in row["families"].items()]
    return "; ".join([f"{row['limit']}, {row['action']}{after}", *counts])


def bfd_line(row: dict[str, Any], address: str) -> str:
    """A BFD session in one line: states, hop count, timers as they are in force, where packets come from if not from ``address``, and
    what keeps it from being Up."""
    line = f"{row['state']}, hop count {row['hop_count']}"
    if row.get("remote_state") is not None:
        line += f"; the peer: {row['remote_state']} ({row['remote_diagnostic']})"
    if row["state"] == "Up":
        line += f"; every {row['transmit_interval_ms']:g} ms, detection in {row['detection_time_ms']:g} ms"
    if (source := row.get("source")) is not None and source != address.partition("%")[0]:
        line += f"; packets come from {source}"
    return f"{line}; {row['reason']}" if row["reason"] else line


def notification(row: dict[str, Any]) -> str:
    """A NOTIFICATION in one line: numbers, name, meaning, the operator's text, else the data."""
    story = f"{row['code']}/{row['subcode']} {row['name']}: {row['meaning']}"
    if row.get("text"):
        return f'{story}, "{row["text"]}"'
    return f"{story}, data {row['data']}" if row["data"] else story


IN_USE = {
    "asn4": "4-octet AS numbers",
    "route_refresh": "route refresh",
    "enhanced_refresh": "enhanced route refresh",
    "extended_message": "extended messages",
    "add_path_receive": "ADD-PATH from it",
    "add_path_send": "ADD-PATH to it",
}


def why(result: dict[str, Any], *, color: bool = False, width: int = WIDE) -> str:
    """``show.why``."""
    lines = [result["prefix"]]
    rejected = [path for path in result["received"] if "rejected" in path]
    if not result["candidates"] and not rejected:
        lines.append("  nobody offers it")
    for path in _best_first(result["candidates"]):
        mark = Text("best", "green") if path["best"] else Text("multipath" if path["multipath"] else "not used")
        lines.append(f"  {_style(mark, color)}: by {_offer(path)}{_because(path.get('why_not'))}")
    lines += [f"  {_style(Text('rejected', 'red'), color)}: by {_offer(path)}: {path['rejected']}" for path in rejected]
    table = _table("  Neighbor", "Announced", "Not announced")
    for row in result["neighbors"]:
        announced = "; ".join(f"path {a['as_path'] or '(empty)'}, next hop {a['next_hop']}" for a in row["announced"])
        reasons = "; ".join(f"{w['peer']}: {w['reason']}" if w["peer"] else w["reason"] for w in row["why_not"])
        table.add_row(f"  {row['peer']}", announced, reasons)
    return "\n".join([*lines, "", _text(table, color, width)])


def _offer(path: dict[str, Any]) -> str:
    return f"{path['peer']}, path {path['as_path'] or '(empty)'}, next hop {path['next_hop'] or 'own'}"


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _style(text: Text, color: bool) -> str:
    if not color:
        return text.plain
    return {"green": "\x1b[32m", "red": "\x1b[31m"}.get(str(text.style), "") + text.plain + "\x1b[0m"


def fib(result: dict[str, Any], *, color: bool = False, width: int = WIDE) -> str:
    """``show.fib``."""
    if not result["routes"]:
        return "no routes in the kernel"
    table = _table("Network", "Group", "Next hops")
    for row in result["routes"]:
        hops = ", ".join(f"{hop['gateway'] or 'on link'} dev {hop['interface']}" for hop in row["next_hops"])
        table.add_row(row["prefix"], "" if row["group"] is None else str(row["group"]), hops)
    return _text(table, color, width)


def reload_answer(result: dict[str, Any], *, color: bool = False, width: int = WIDE) -> str:  # noqa: ARG001
    """``config.reload``: one line for each change, then whether it was carried out."""
    if not result["changes"]:
        return "nothing differs from the running configuration"
    end = "carried out" if result["applied"] else "nothing was changed: a dry run"
    return "\n".join([*map(reload.text, result["changes"]), f"{len(result['changes'])} changes; {end}"])


def monitors(result: dict[str, Any], *, color: bool = False, width: int = WIDE) -> str:
    """``show.monitors``."""
    lines = []
    if result["bmp"]:
        table = _table("BMP station", "State", "For", "Octets", "Drops", "Reason")
        for row in result["bmp"]:
            state = Text("connected", "green") if row["connected"] else Text("not connected", "red")
            table.add_row(
                row["station"],
                state,
                _duration(row["uptime"]) if row["connected"] else "",
                str(row["octets"]),
                str(row["drops"]),
                row["reason"] or "",
            )
        lines.append(_text(table, color, width))
    if result["mrt"]:
        lines.append(f"MRT: {result['mrt']['records']} records written to {result['mrt']['updates']}")
    if result["metrics"]:
        lines.append(f"metrics: {result['metrics']}")
    return "\n".join(lines) or "nobody looks on; see bmp, mrt and metrics in vbrlab-bgpd --schema"


def next_hops(result: list[dict[str, Any]], *, color: bool = False, width: int = WIDE) -> str:
    """``show.nexthops``."""
    if not result:
        return "no next hops"
    table = _table("Next hop", "Via", "Cost", "Reached by")
    for row in result:
        answer = row["resolved"]
        if answer is None:
            table.add_row(row["next_hop"], Text("no route", "red"), "", "")
        else:
            ways = ", ".join(f"{way['gateway'] or 'on link'} dev {way['interface']}" for way in answer["ways"])
            table.add_row(row["next_hop"], answer["via"], str(answer["cost"]), ways)
    return _text(table, color, width)


def _marks(path: dict[str, Any]) -> str:
    if "rejected" in path:
        return "r"
    usable = "*" if path.get("usable") else " "
    if path.get("best"):
        return usable + ">"
    return usable + ("=" if path.get("multipath") else " ")


def _mark_style(path: dict[str, Any]) -> str:
    if "rejected" in path:
        return "red"
    return "green" if path.get("best") or path.get("multipath") else ""


def _best_first(paths: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(paths, key=lambda p: (not p.get("best"), not p.get("multipath")))


def _communities(path: dict[str, Any]) -> str:
    values = [*path["communities"], *path["large_communities"], *path["extended_communities"]]
    return f"  [{' '.join(values)}]" if values else ""


def _counters(by_type: dict[str, int], octets: int) -> str:
    return ", ".join(f"{name} {count}" for name, count in by_type.items()) + f" ({octets} octets)"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
    return f"{whole // 3600:02}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _text(table: Table, color: bool, width: int) -> str:
    out = io.StringIO()
    # Words in brackets are communities, not rich's markup.
    # What the caller wants counts, not what the environment says of its own terminal.
    system: Literal["standard"] | None = "standard" if color else None
    Console(
        file=out, force_terminal=color, color_system=system, width=width, highlight=False, markup=False, emoji=False
    ).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
