"""Listings of SAs in charon's words, as vici brings them."""

from __future__ import annotations

from typing import Any


def child(number: int = 1, state: str = "INSTALLED", packets: int = 0) -> dict[str, Any]:
    return {
        "name": "c1",
        "uniqueid": str(number),
        "reqid": "1",
        "state": state,
        "mode": "TUNNEL",
        "protocol": "ESP",
        "encap": "yes",
        "spi-in": f"0150c{number:03x}",
        "spi-out": f"3e8f9{number:03x}",
        "encr-alg": "AES_CBC",
        "encr-keysize": "128",
        "integ-alg": "HMAC_SHA1_96",
        "bytes-in": str(packets * 84),
        "packets-in": str(packets),
        "bytes-out": str(packets * 84),
        "packets-out": str(packets),
        "rekey-time": "79739",
        "life-time": "95040",
        "install-time": "0",
        "local-ts": ["0.0.0.0/0"],
        "remote-ts": ["0.0.0.0/0"],
    }


def listing(*children: dict[str, Any], state: str = "ESTABLISHED") -> list[dict[str, Any]]:
    return [
        {
            "c1": {
                "uniqueid": "1",
                "version": "2",
                "state": state,
                "local-host": "203.0.113.191",
                "local-id": "203.0.113.191",
                "remote-host": "198.51.100.1",
                "remote-id": "198.51.100.1",
                "initiator": "yes",
                "initiator-spi": "c021acb2c48989c1",
                "responder-spi": "c76a7cdf314f593a",
                "encr-alg": "AES_CBC",
                "encr-keysize": "128",
                "integ-alg": "HMAC_SHA1_96",
                "prf-alg": "PRF_HMAC_SHA1",
                "dh-group": "MODP_2048",
                "established": "4",
                "rekey-time": "85680",
                "child-sas": {f"c1-{values['uniqueid']}": values for values in children},
            }
        }
    ]
