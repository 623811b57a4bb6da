"""The rendered peer configurations before the real programs: swanctl and charon for strongSwan's, FRR's own parsers for the BGP part.

The keys are those that one grammar or another would misread. One end gets its key over vici, the other from the rendered file: that the
tunnel comes up says that both hold the same octets.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import peer_config
from harness.ipsec import strongswan, swanctl
from harness.ipsec.vici_session import ViciError, ViciSession
from tests.ipsec.ends import CLOUD, DEVICE, Stage, tunnel
from topologies import ipsec_ecmp

KEYS = (
    "0xfddsFF123",
    "0sZmRkc0ZG",
    "0X12",
    "0S==",
    "a\\b\\\\n\\t",
    "it's;#{}[]=,:?",
    "#include",
    "$(x)`y`%s~",
    "?" * 100,
    "\\",
)


@pytest.mark.root
@pytest.mark.timeout(60)
@pytest.mark.spec("ECMP-5", "ECMP-11")
async def test_a_key_of_the_rendered_file_is_the_key_of_vici(stage: Stage) -> None:
    """charon of the device is told by swanctl from the file that vbrlab peer-config writes, charon of the cloud by vici."""
    program = shutil.which("swanctl", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("swanctl is not installed (package strongswan-swanctl)")
    await stage.start(stage.device, tunnel(DEVICE, key=""))
    await stage.start(stage.cloud, tunnel(CLOUD, key="", initiate="none"))
    for end in (stage.device, stage.cloud):
        await end.until("charon", state="ready")
    cloud = await ViciSession.connect(stage.cloud.directory / "vici")
    device = await ViciSession.connect(stage.device.directory / "vici")
    file = stage.directory / "peer.conf"
    try:
        for key in KEYS:
            text = swanctl.render(tunnel(DEVICE, key=key), "vpn1")
            assert "start_action = start" in text
            # The cloud alone begins: of two that do, one is told that the other was first.
            peer_config.save(text.replace("start_action = start", "start_action = none"), file)
            uri = f"unix://{stage.device.directory / 'vici'}"
            for action in ("--load-creds", "--load-conns"):
                words = [
                    program,
                    action,
                    "--file",
                    str(file),
                    "--uri",
                    uri,
                    *(["--clear"] if "creds" in action else []),
                ]
                done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
            await cloud.request("load-shared", strongswan.shared_key(tunnel(CLOUD, key=key)))
            await cloud.request("initiate", {"child": "IPsec-VPN-1", "ike": "IPsec-VPN-1", "timeout": "5000"})
            await cloud.request("terminate", {"ike": "IPsec-VPN-1", "force": "yes", "timeout": "1000"})
        await cloud.request("load-shared", strongswan.shared_key(tunnel(CLOUD, key="other")))
        with pytest.raises(ViciError):
            await cloud.request("initiate", {"child": "IPsec-VPN-1", "ike": "IPsec-VPN-1", "timeout": "5000"})
    finally:
        cloud.close()
        device.close()


@pytest.mark.spec("ECMP-11")
@pytest.mark.parametrize("program", [("/usr/lib/frr/bgpd", "-C", "-f"), ("vtysh", "-C", "-f")], ids=["bgpd", "vtysh"])
def test_frr_takes_its_part(program: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed (package frr)")
    for connection in ("vpn1", "vpn2", "vpn3"):
        file = tmp_path / f"{connection}.conf"
        file.write_text(peer_config.render(peer_config.find(ipsec_ecmp.estate(), connection), peer_config.Form.FRR))
        done = subprocess.run([*program, str(file)], capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown command" not in done.stdout + done.stderr
