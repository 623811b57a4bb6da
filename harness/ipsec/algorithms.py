"""The documents' names of algorithms, and what strongSwan calls them: as proposed, and as read back from a running SA.

A table (ECMP-6, ECMP-31). It decides nothing: a word that is not here is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.plan import Esp, Ike

T = TypeVar("T")


class UnknownAlgorithm(ValueError):
    """A word that no document uses for an algorithm of that kind."""


@dataclass(frozen=True, slots=True)
class Cipher:
    """``keyword`` in a proposal; ``name`` and ``bits`` in a running SA."""

    keyword: str
    name: str
    bits: int | None


@dataclass(frozen=True, slots=True)
class Transform:
    """``keyword`` in a proposal; ``name`` in a running SA."""

    keyword: str
    name: str


ENCRYPTION = {
    "aes": Cipher("aes128", "AES_CBC", 128),
    "aes192": Cipher("aes192", "AES_CBC", 192),
    "aes256": Cipher("aes256", "AES_CBC", 256),
    "3des": Cipher("3des", "3DES_CBC", None),
    "aes-gcm": Cipher("aes128gcm16", "AES_GCM_16", 128),
    "aes-gcm-192": Cipher("aes192gcm16", "AES_GCM_16", 192),
    "aes-gcm-256": Cipher("aes256gcm16", "AES_GCM_16", 256),
}

COMBINED = frozenset({"aes-gcm", "aes-gcm-192", "aes-gcm-256"})
"""Ciphers with integrity of their own (RFC 5282, RFC 4106): no console offers them, a device may have them."""

INTEGRITY = {
    "md5": Transform("md5", "HMAC_MD5_96"),
    "sha1": Transform("sha1", "HMAC_SHA1_96"),
    "sha256": Transform("sha256", "HMAC_SHA2_256_128"),
    "sha384": Transform("sha384", "HMAC_SHA2_384_192"),
    "sha512": Transform("sha512", "HMAC_SHA2_512_256"),
}

PRF = {
    "md5": Transform("prfmd5", "PRF_HMAC_MD5"),
    "sha1": Transform("prfsha1", "PRF_HMAC_SHA1"),
    "sha256": Transform("prfsha256", "PRF_HMAC_SHA2_256"),
    "sha384": Transform("prfsha384", "PRF_HMAC_SHA2_384"),
    "sha512": Transform("prfsha512", "PRF_HMAC_SHA2_512"),
}

DH_GROUP = {
    "group1": Transform("modp768", "MODP_768"),
    "group2": Transform("modp1024", "MODP_1024"),
    "group5": Transform("modp1536", "MODP_1536"),
    "group14": Transform("modp2048", "MODP_2048"),
    "group15": Transform("modp3072", "MODP_3072"),
    "group16": Transform("modp4096", "MODP_4096"),
    "group19": Transform("ecp256", "ECP_256"),
    "group20": Transform("ecp384", "ECP_384"),
    "group21": Transform("ecp521", "ECP_521"),
    "group24": Transform("modp2048s256", "MODP_2048_256"),
}
"""Beyond group14 no console goes; a device may."""


KERNEL_ENCRYPTION = {
    ("cbc(aes)", 128): "aes",
    ("cbc(aes)", 192): "aes192",
    ("cbc(aes)", 256): "aes256",
    ("cbc(des3_ede)", 192): "3des",
    ("rfc4106(gcm(aes))", 160): "aes-gcm",
    ("rfc4106(gcm(aes))", 224): "aes-gcm-192",
    ("rfc4106(gcm(aes))", 288): "aes-gcm-256",
}
KERNEL_INTEGRITY = {
    ("hmac(md5)", 128): "md5",
    ("hmac(sha1)", 160): "sha1",
    ("hmac(sha256)", 256): "sha256",
    ("hmac(sha384)", 384): "sha384",
    ("hmac(sha512)", 512): "sha512",
}
"""What the kernel calls them in its own states, with the bits of the key (a combined cipher's has four octets of salt)."""


def _look_up(table: Mapping[str, T], kind: str, word: str) -> T:
    try:
        return table[word]
    except KeyError:
        raise UnknownAlgorithm(f"{kind} {word!r} is none of {', '.join(table)}; use one of these") from None


def ike_proposal(ike: Ike) -> str:
    """The IKE_SA proposal: cipher, integrity, pseudo-random function, group. Raises UnknownAlgorithm."""
    words = [_look_up(ENCRYPTION, "IKE encryption", ike.encryption).keyword]
    if ike.encryption not in COMBINED:
        words.append(_look_up(INTEGRITY, "IKE integrity", ike.integrity).keyword)
    words.append(_look_up(PRF, "IKE PRF", ike.prf).keyword)
    words.append(_look_up(DH_GROUP, "IKE DH group", ike.dh_group).keyword)
    return "-".join(words)


def esp_proposal(esp: Esp) -> str:
    """The CHILD_SA proposal; the group is there when perfect forward secrecy is on. Raises UnknownAlgorithm."""
    words = [_look_up(ENCRYPTION, "ESP encryption", esp.encryption).keyword]
    if esp.encryption not in COMBINED:
        words.append(_look_up(INTEGRITY, "ESP integrity", esp.integrity).keyword)
    if esp.pfs is not None:
        words.append(_look_up(DH_GROUP, "PFS", esp.pfs).keyword)
    return "-".join(words)


def documented(kind: Mapping[str, Cipher] | Mapping[str, Transform], name: str, bits: int | None = None) -> str:
    """The document's word for what a running SA reports; the SA's own name where no document has a word for it."""
    for word, entry in kind.items():
        if entry.name == name and (not isinstance(entry, Cipher) or entry.bits == bits):
            return word
    return name if bits is None else f"{name}_{bits}"
