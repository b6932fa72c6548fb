"""A bundle's contract against damage and malice: its checksum, and its signature with a key."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanbatsu.deploy.entry import PolicyError

KEY_VARIABLE = "KANBATSU_POLICY_KEY"
"""Environment variable with the path of the key file, for those who name none."""
SHORTEST_KEY = 16
"""Fewest bytes of a key; 32 random ones are best."""
CHECKSUM, SIGNATURE = "checksum", "signature"
Key = str | os.PathLike[str]


def digest(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def canonical(value: Any) -> bytes:
    """Return JSON that is equal, byte for byte, for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sealed(contract: Mapping[str, Any], key: Key | None = None) -> dict[str, Any]:
    """Return a contract with its signature, where there is a key, and its checksum.

    Args:
        contract: everything else.
        key: path of the key file; that of `KANBATSU_POLICY_KEY` by default, or no signature.

    Raises:
        ValueError: the key file cannot be used.

    Example:
        >>> sealed({"format": "x"})["signature"] is None
        True
    """
    secret = key_of(key)
    signature = None if secret is None else _mac(secret, contract)
    whole = {**contract, SIGNATURE: signature}
    return {**whole, CHECKSUM: digest(canonical(whole))}


def check_seal(where: Path, contract: Mapping[str, Any], key: Key | None, remedy: str) -> None:
    """Refuse a contract whose checksum or signature does not fit the rest.

    Args:
        where: path of the contract, for messages.
        contract: as it was read.
        key: as for `sealed`.
        remedy: what to do about a damaged file.

    Raises:
        PolicyError: it was damaged; or it is signed and there is no key, or another; or a key was
            given and it is not signed.
    """
    rest = {name: value for name, value in contract.items() if name != CHECKSUM}
    if contract.get(CHECKSUM) != digest(canonical(rest)):
        raise PolicyError(
            f"{where} does not match its checksum: it was damaged or edited; copy the whole "
            f"folder anew, or {remedy}"
        )
    signature = rest.pop(SIGNATURE, None)
    try:
        secret = key_of(key)
    except ValueError as error:
        raise PolicyError(str(error)) from None
    if signature is None and secret is None:
        return
    if signature is None:
        raise PolicyError(
            f"{where} is not signed, and a key was given: whoever wrote it had no key. Export it "
            "again with that key, or load it without one if you trust where it comes from"
        )
    if secret is None:
        raise PolicyError(
            f"{where} is signed, and no key was given to check it by: name the key file, "
            f"load(path, key=FILE), or set {KEY_VARIABLE} to its path"
        )
    if not isinstance(signature, str) or not hmac.compare_digest(
        signature.encode(), _mac(secret, rest).encode()
    ):
        raise PolicyError(
            f"{where} is whole, but its signature is not that of this key: somebody without the "
            "key changed it, or it was signed with another key. Do not use it before you know which"
        )


def key_of(key: Key | None) -> bytes | None:
    """Read a key file, the one of `KANBATSU_POLICY_KEY` by default; None where there is none.

    Raises:
        ValueError: it cannot be read, or is too short.
    """
    named = os.environ.get(KEY_VARIABLE) if key is None else key
    if not named:
        return None
    path = Path(named)
    try:
        secret = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise ValueError(f"the key file {path} cannot be read ({error.strerror})") from None
    if secret is None:
        raise ValueError(f"the key file {path} does not exist, or is no regular file")
    if len(secret) < SHORTEST_KEY:
        raise ValueError(
            f"the key file {path} holds {len(secret)} bytes, fewer than {SHORTEST_KEY}: make one "
            f"with head -c 32 /dev/urandom > {path.name}"
        )
    return secret


def _mac(secret: bytes, contract: Mapping[str, Any]) -> str:
    return "hmac-sha256:" + hmac.new(secret, canonical(contract), hashlib.sha256).hexdigest()
