"""Flows are drawn from their spec alone: many clients, every 5-tuple once, the same everywhere."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from harness.traffic.flows import Direction, Flow, FlowSet, FlowSpec, FlowSpecError, Protocol

BLOCKS = ("192.168.0.0/24", "192.168.1.0/24", "192.168.2.0/24")
SPEC = FlowSpec(BLOCKS, "10.0.0.1")


@pytest.mark.spec("ECMP-23")
def test_default_load_is_what_the_lab_promises() -> None:
    flows = FlowSet(SPEC)
    assert len(flows) >= 3000
    assert {p: sum(f.protocol is p for f in flows) for p in Protocol} == {Protocol.UDP: 2700, Protocol.TCP: 300}
    assert len({f.client for f in flows}) == 300
    assert len({f.tuple_of(Direction.TO_VPC) for f in flows}) == len(flows)
    assert [flow.id for flow in flows] == list(range(len(flows)))


def test_a_spec_makes_the_same_flows_after_a_trip_through_json() -> None:
    again = FlowSpec.from_dict(json.loads(json.dumps(SPEC.to_dict())))
    assert again == SPEC
    assert FlowSet(again).flows == FlowSet(SPEC).flows


def test_seed_and_protocol_change_the_digest() -> None:
    digests = {FlowSet(FlowSpec(BLOCKS, "10.0.0.1", seed=seed)).digest for seed in range(5)}
    digests.add(FlowSet(FlowSpec(BLOCKS, "10.0.0.1", udp=2701, tcp=299)).digest)
    assert len(digests) == 6


def test_every_flow_belongs_to_one_block() -> None:
    flows = FlowSet(SPEC)
    parts = [flows.within([block]) for block in BLOCKS]
    assert sum(map(len, parts)) == len(flows)
    assert set().union(*parts) == set(flows)
    assert all(f.client.startswith("192.168.1.") for f in parts[1])


def test_tcp_client_ends_are_used_once() -> None:
    ends = [(f.client, f.client_port) for f in FlowSet(SPEC) if f.protocol is Protocol.TCP]
    assert len(set(ends)) == len(ends)


def test_key_is_what_stands_in_the_packet() -> None:
    flow = Flow(7, Protocol.UDP, "192.168.0.5", 20001, "10.0.0.1", 7003)
    forward = socket.inet_aton("192.168.0.5") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 20001, 7003)
    assert flow.key(Direction.TO_VPC) == forward
    assert flow.key(Direction.TO_DC) == forward[4:8] + forward[:4] + forward[10:] + forward[8:10]


def test_index_tells_flow_and_direction() -> None:
    flows = FlowSet(SPEC)
    for flow in (flows[0], flows[1234], flows[2999]):
        assert flows.keys[flow.protocol][flow.key(Direction.TO_VPC)] == 2 * flow.id
        assert flows.keys[flow.protocol][flow.key(Direction.TO_DC)] == 2 * flow.id + 1


def test_too_many_flows_are_refused_with_the_remedy() -> None:
    with pytest.raises(FlowSpecError, match=r"11 TCP flows .* make 10; give more hosts or ports"):
        FlowSet(FlowSpec(("192.168.0.0/24",), "10.0.0.1", udp=0, tcp=11, hosts=(1, 5), client_ports=(1000, 2)))


def test_small_blocks_use_only_their_hosts() -> None:
    flows = FlowSet(FlowSpec(("192.0.2.0/29",), "10.0.0.1", udp=20, tcp=2, hosts=(2, 200)))
    assert {f.client for f in flows} <= {f"192.0.2.{host}" for host in range(2, 7)}
