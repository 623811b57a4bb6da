"""Pre-shared keys that a user leaves to the console: 16 random characters, all of them legal (ECMP-5)."""

from __future__ import annotations

import secrets
import string

LENGTH = 16
_CHARACTERS = string.ascii_letters + string.digits


def random_key() -> str:
    """Another key each time."""
    return "".join(secrets.choice(_CHARACTERS) for _ in range(LENGTH))
