"""pcapng as written here is read by tshark and by scapy, and comes back as it went in."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.capture.pcapng import LinkType, Loss, NotACapture, Packet, Writer, network_layer, packets, read

_TIME = 1_700_000_000_123_456_789
_IP = bytes.fromhex("4500001c000100004011000a0a00000ac0a80005") + struct.pack("!HHHH", 500, 500, 8, 0)
_ETHERNET = bytes(6) + bytes.fromhex("020000000001") + b"\x08\x00" + _IP


def _example() -> bytes:
    out = io.BytesIO()
    writer = Writer(out)
    wan, tunnel = writer.interface("internet:gw1", LinkType.ETHERNET), writer.interface("gw1:ipsec0", LinkType.RAW)
    writer.packet(wan, _TIME, _ETHERNET, len(_ETHERNET), outgoing=True)
    writer.packet(tunnel, _TIME + 1, _IP[:24], len(_IP), outgoing=False, comment="link cut")
    writer.statistics(wan, _TIME + 2, received=1, dropped=7)
    return out.getvalue()


def test_what_is_written_is_read() -> None:
    first, second, loss = read(io.BytesIO(_example()))
    assert first == Packet("internet:gw1", 1, _TIME, len(_ETHERNET), _ETHERNET, outgoing=True)
    assert second == Packet("gw1:ipsec0", 101, _TIME + 1, len(_IP), _IP[:24], outgoing=False, comment="link cut")
    assert loss == Loss("internet:gw1", 1, 7)


@given(st.lists(st.tuples(st.binary(max_size=70), st.text(max_size=9), st.none() | st.booleans()), max_size=5))
def test_any_packets_survive(entries: list[tuple[bytes, str, bool | None]]) -> None:
    out = io.BytesIO()
    writer = Writer(out)
    writer.interface("a:b", LinkType.RAW)
    for number, (data, comment, outgoing) in enumerate(entries):
        writer.packet(0, _TIME + number, data, len(data) + 3, outgoing, comment)
    out.seek(0)
    found = [(p.data, p.comment, p.outgoing, p.time - _TIME, p.length) for p in packets(out)]
    assert found == [(d, c, o, n, len(d) + 3) for n, (d, c, o) in enumerate(entries)]


def test_a_capture_cut_off_by_a_kill_is_read_up_to_there() -> None:
    whole = _example()
    counts = [len(list(read(io.BytesIO(whole[:size])))) for size in range(len(whole) + 1)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 3)


def test_the_other_byte_order_is_read() -> None:
    def block(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body) + 12) + body + struct.pack(">I", len(body) + 12)

    data = block(0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
    data += block(1, struct.pack(">HHI", 1, 0, 0))  # no if_tsresol: microseconds
    data += block(6, struct.pack(">IIIII", 0, 0, 5, 2, 2) + b"ab\0\0")
    assert list(read(io.BytesIO(data))) == [Packet("", 1, 5000, 2, b"ab")]


@pytest.mark.parametrize("data", [b"\xd4\xc3\xb2\xa1" + bytes(20), b"\x0a\x0d\x0d\x0a" + bytes(24), bytes(32)])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(NotACapture):
        list(read(io.BytesIO(data)))


def test_network_layer_of_each_link_type() -> None:
    def packet(link: int, data: bytes) -> Packet:
        return Packet("x", link, 0, len(data), data)

    assert network_layer(packet(1, _ETHERNET)) == (0x0800, _IP)
    assert network_layer(packet(1, _ETHERNET[:12] + b"\x81\x00\x00\x07" + _ETHERNET[12:])) == (0x0800, _IP)
    assert network_layer(packet(101, _IP)) == (0x0800, _IP)
    assert network_layer(packet(101, b"\x60" + bytes(39)))[0] == 0x86DD
    assert network_layer(packet(101, b"")) == (0, b"")
    with pytest.raises(NotACapture, match="link type 105"):
        network_layer(packet(105, b""))


def test_scapy_reads_it(tmp_path: Path) -> None:
    from scapy.layers.inet import UDP
    from scapy.utils import PcapNgReader

    file = tmp_path / "x.pcapng"
    file.write_bytes(_example())
    with PcapNgReader(str(file)) as reader:
        found = reader.read_all()
    assert len(found) == 2
    assert found[0][UDP].dport == 500
    assert int(float(found[0].time)) == _TIME // 10**9


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    file.write_bytes(_example())
    fields = [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.packet_flags_direction",
        "frame.len",
        "frame.comment",
        "ip.src",
    ]
    command = ["tshark", "-r", str(file), "-T", "fields", "-E", "separator=|", *(x for f in fields for x in ("-e", f))]
    home = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=home)
    lines = [line.split("|") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == ["internet:gw1", "gw1:ipsec0"]
    assert lines[0][1].startswith("1700000000.123456789")
    assert [int(line[2], 0) for line in lines] == [2, 1]
    assert [line[3:] for line in lines] == [["42", "", "10.0.0.10"], ["28", "link cut", "10.0.0.10"]]
