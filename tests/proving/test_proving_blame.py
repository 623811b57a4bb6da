"""From quotations to lines: proposals, keys, addresses, speakers. The logs are charon's own, shortened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.asa.read import read
from harness.asa.running import running
from harness.proving.blame import blame
from harness.proving.facts import End, Facts, Session, plain, proposal
from harness.proving.graft import graft
from harness.proving.verdict import candidates_of, verdict
from labs.document import asa as document
from labs.mutations import mutations
from topologies import ipsec_ecmp

TEXT = document.CONFIGURATIONS[1]
CLOUD, DEVICE = "203.0.113.191", "198.51.100.1"
BLOCKS = ipsec_ecmp.CLIENT_BLOCKS
WORKING = Facts(up=True, session=True, learned=BLOCKS)


def lines(facts: Facts, text: str = TEXT) -> list[int | None]:
    return [culprit.line for culprit in blame(running(read(text), CLOUD), facts)]


def ike(received: str, configured: str, protocol: str = "IKE") -> Facts:
    log = (f"received proposals: {protocol}:{received}", f"configured proposals: {protocol}:{configured}")
    return Facts(device=End("failed", None, log))


def test_a_working_device_has_no_culprit() -> None:
    assert blame(running(read(TEXT), CLOUD), WORKING) == ()


@pytest.mark.spec("ECMP-31")
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (ike("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048", "AES_CBC_256/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048"), [11]),
        (ike("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048", "AES_CBC_128/HMAC_MD5_96/PRF_HMAC_SHA1/MODP_2048"), [12]),
        (ike("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048", "AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/ECP_256"), [13]),
        (ike("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048", "AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_MD5/MODP_1536"), [14, 13]),
        (ike("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048", "AES_GCM_16_256/PRF_HMAC_SHA1/MODP_2048"), [11]),
        (ike("AES_CBC_128/HMAC_SHA1_96/NO_EXT_SEQ", "AES_CBC_128/HMAC_SHA2_256_128/NO_EXT_SEQ", "ESP"), [18]),
        (Facts(device=End(log=("tried 1 shared key for 'a' - 'b', but MAC mismatched",))), [27, 28]),
        (Facts(cloud=End(log=("tried 1 shared key for 'a' - 'b', but MAC mismatched",))), [28]),
        (Facts(device=End(log=(f"no IKE config found for {DEVICE}...203.0.113.77, sending NO_PROPOSAL_CHOSEN",))), [33]),
        (Facts(cloud=End(log=(f"no IKE config found for {CLOUD}...{DEVICE}, sending NO_PROPOSAL_CHOSEN",))), [4]),
        (Facts(way=("192.0.2.172", "outside1"), unresolved=frozenset({"192.0.2.172"})), [37]),
        (replace(ike("AES_CBC_128/HMAC_SHA1_96/MODP_2048", "AES_CBC_128/HMAC_SHA1_96/MODP_1024", "ESP"), up=True, rekey="x"), [22]),
        (Facts(up=True, cloud_bgp=Session(sent_error="NOTIFICATION 2/2 Bad Peer AS")), [41]),
        (Facts(up=True, device_bgp=Session(sent_error="NOTIFICATION 2/2 Bad Peer AS")), [43]),
        (Facts(up=True, device_bgp=Session(refused=("169.254.10.9",))), [43]),
        (Facts(up=True, cloud_bgp=Session(refused=("169.254.10.2",))), [31]),
        (Facts(up=True), [31]),
        (replace(WORKING, unreached={BLOCKS[1]: "192.168.50.215"}, unresolved=frozenset({"192.168.50.215"}), inner=False), [39]),
        (replace(WORKING, inner=False), [8]),
    ],
)  # fmt: skip
def test_a_reason_leads_to_its_line(facts: Facts, expected: list[int | None]) -> None:
    assert lines(facts) == expected


@pytest.mark.parametrize("end", ["cloud", "device"])
def test_a_device_that_names_itself_otherwise_is_found_out_by_whichever_end_was_called(end: str) -> None:
    asked = End(log=("no matching peer config found",))
    facts = Facts(cloud=asked) if end == "cloud" else Facts(device=asked)
    text = TEXT.replace(" set ikev2 local-identity address\n", " set ikev2 local-identity hostname\n")
    assert text != TEXT
    (culprit,) = blame(running(read(text), CLOUD), facts)
    assert (culprit.line, culprit.said) == (21, f"{end}'s charon: no matching peer config found")


def test_a_line_that_stands_elsewhere_is_named_there() -> None:
    moved = TEXT.replace(" group 14\n", "").replace(" prf sha\n", " prf sha\n group 5\n")
    facts = ike("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048", "AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1536")
    assert lines(facts, moved) == [14]


def test_of_several_policies_the_nearest_is_blamed() -> None:
    policy = "crypto ikev2 policy 5\n encryption aes-256\n integrity sha512\n group 21\n prf sha512\n lifetime seconds 86400\n"
    text = TEXT.replace("crypto ikev2 policy 10", policy + "crypto ikev2 policy 10").replace(
        "group 14\n", "group 5\n", 1
    )
    own = (
        "AES_CBC_256/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512/ECP_521, IKE:AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_1536"
    )
    assert lines(ike("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048", own), text) == [19]


def test_pfs_that_is_missing_is_named_as_such() -> None:
    facts = replace(
        ike("AES_CBC_128/HMAC_SHA1_96/MODP_2048", "AES_CBC_128/HMAC_SHA1_96", "ESP"),
        up=True,
        rekey="NO_PROPOSAL_CHOSEN",
    )
    (culprit,) = blame(running(read(TEXT.replace(" set pfs group14\n", "")), CLOUD), facts)
    assert (culprit.line, "PFS is none here" in culprit.cause) == (None, True)


def test_logs_are_read_without_thread_and_group() -> None:
    assert plain([{"line": "05[CFG] <a|1> received proposals: IKE:X"}]) == ("received proposals: IKE:X",)
    assert proposal("AES_CBC_128/HMAC_SHA1_96/PRF_HMAC_SHA1/MODP_2048/NO_EXT_SEQ") == {
        "encryption": "AES_CBC_128",
        "integrity": "HMAC_SHA1_96",
        "prf": "PRF_HMAC_SHA1",
        "group": "MODP_2048",
    }


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize("number", document.CONFIGURATIONS)
def test_the_documents_device_is_the_documented_node(number: int) -> None:
    """Grafting the document's text changes nothing but names that stand for nothing."""
    plan = ipsec_ecmp.plan()
    device = running(read(document.CONFIGURATIONS[number]), ipsec_ecmp.GATEWAY_ADDRESSES[number - 1])
    assert device.faults == ()
    grafted = graft(plan, f"gw{number}", device)
    assert grafted.links == plan.links
    before, after = plan[f"gw{number}"], grafted[f"gw{number}"]
    assert after.speaker == before.speaker
    assert after.tunnel == before.tunnel
    assert {(route.prefix, route.gateway) for route in after.routes} == {(r.prefix, r.gateway) for r in before.routes}


@pytest.mark.spec("ECMP-32")
@pytest.mark.parametrize("number", document.CONFIGURATIONS)
def test_every_mutation_makes_a_plan_and_shows_no_key(number: int) -> None:
    """Hundreds of wrong texts: each is read to its end and makes a plan that holds together."""
    plan = ipsec_ecmp.plan()
    made = list(mutations(document.CONFIGURATIONS[number], seed=number))
    assert len(made) > 120
    for mutation in made:
        config = read(mutation.text)
        device = running(config, ipsec_ecmp.GATEWAY_ADDRESSES[number - 1])
        graft(plan, f"gw{number}", device)
        assert "fdds" not in f"{device!r} {config.unknown} {device.faults} {config.remarks}", mutation.what


@pytest.mark.parametrize("wrong", ["two words", "0 two words", 'quo"te'])
def test_a_key_that_is_none_is_not_quoted(wrong: str) -> None:
    text = TEXT.replace("fddsFF123****", wrong)
    (candidate,) = candidates_of(ipsec_ecmp.estate(), text, Path("gw1.txt"))
    shown = verdict(candidate, Facts()).to_text()
    assert "gw1.txt:27" in shown
    assert "pre-shared" in shown
    assert not any(word in shown for word in ("two", "words", 'quo"'))
