"""ASA's words for algorithms and the documents' words for the same (ECMP-6): tables for both directions.

A word with None is legal on an ASA and has no counterpart in the console: it is read, and refused where the cloud is met.
"""

from __future__ import annotations

from collections.abc import Mapping

ENCRYPTION: Mapping[str, str | None] = {
    "aes": "aes",
    "aes-192": "aes192",
    "aes-256": "aes256",
    "3des": "3des",
    "des": None,
    "null": None,
    "aes-gcm": None,
    "aes-gcm-192": None,
    "aes-gcm-256": None,
}

INTEGRITY: Mapping[str, str | None] = {
    "sha": "sha1",
    "md5": "md5",
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
    "null": None,
}
"""Of an IKEv2 policy, ``prf`` too. The same algorithm has another spelling in a proposal: ``sha`` here, ``sha-1`` there."""

ESP_INTEGRITY: Mapping[str, str | None] = {
    "sha-1": "sha1",
    "md5": "md5",
    "sha-256": "sha256",
    "sha-384": "sha384",
    "sha-512": "sha512",
    "null": None,
}

GROUP: Mapping[str, str | None] = {
    "1": "group1",
    "2": "group2",
    "5": "group5",
    "14": "group14",
    **dict.fromkeys(("15", "16", "19", "20", "21", "24")),
}

PFS: Mapping[str, str | None] = {f"group{number}": word for number, word in GROUP.items()}


BEYOND_THE_CONSOLE: Mapping[str, str] = {
    **{word: word for word in ("aes-gcm", "aes-gcm-192", "aes-gcm-256")},
    **{number: f"group{number}" for number in ("15", "16", "19", "20", "21", "24")},
    **{f"group{number}": f"group{number}" for number in ("15", "16", "19", "20", "21", "24")},
}
"""What no console offers and a device can be run with all the same: ASA's word and the plan's."""


def asa_word(table: Mapping[str, str | None], documented: str) -> str:
    """ASA's spelling of a document's word. Raises KeyError for one that the documents do not use."""
    for word, meaning in table.items():
        if meaning == documented:
            return word
    raise KeyError(documented)
