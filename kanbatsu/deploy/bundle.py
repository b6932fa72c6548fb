"""A policy's folder: which files belong to it, each with its checksum in the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kanbatsu.deploy.contract import CONTRACT
from kanbatsu.deploy.entry import PolicyError
from kanbatsu.deploy.seal import Key, check_seal, digest, sealed
from kanbatsu.files.disk import write_json

FORMAT, VERSION = "kanbatsu-policy", 2
DESCRIPTION, ARRAYS, ONNX, C99 = "policy.json", "policy.safetensors", "policy.onnx", "policy.c"
NEEDED, OPTIONAL = (DESCRIPTION, ARRAYS), (ONNX, C99)
AGAIN = "export it again with kanbatsu.deploy.export(run, out_dir)"
DIGESTS = "sha256"
"""Key of the contract with the checksum of every file."""


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a policy, before anything is written.

    Raises:
        FileExistsError: it does; the message names what.
    """
    ours = {CONTRACT, *NEEDED, *OPTIONAL}
    others = sorted({path.name for path in folder.glob("*")} - ours) if folder.is_dir() else []
    if others:
        raise FileExistsError(
            f"{folder} holds other files ({', '.join(others[:3])}), and a policy needs a folder "
            "of its own: name a new one"
        )
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: name a folder for the policy")


def write_bundle(
    folder: Path, files: Mapping[str, bytes], contract: Mapping[str, Any], key: Key | None
) -> None:
    """Write the files of a policy; an earlier one in the folder is replaced.

    The contract goes first and comes last, so that half a policy is none.

    Args:
        folder: folder of the policy, as `check_folder` takes it.
        files: contents by name.
        contract: everything but checksums and signature.
        key: path of the key file, if it is to be signed.
    """
    digests = {name: digest(content) for name, content in files.items()}
    whole = sealed({**contract, "format": FORMAT, "version": VERSION, DIGESTS: digests}, key)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONTRACT, *NEEDED, *OPTIONAL):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_json(folder / CONTRACT, whole)


def read_bundle(folder: Path, key: Key | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read every file of a policy, and compare each with its checksum.

    Args:
        folder: folder of the policy.
        key: path of the key file that it was signed with.

    Returns:
        The contract, and the contents of the other files by name.

    Raises:
        FileNotFoundError: the folder holds no policy.
        PolicyError: a file is missing, foreign, damaged or forged; the message names it.
    """
    where = folder / CONTRACT
    if not where.exists():
        if (folder / DESCRIPTION).exists():
            raise PolicyError(
                f"{where} is missing: it was lost, or the policy was written before policies had "
                f"contracts; {AGAIN}"
            )
        raise FileNotFoundError(f"{folder} holds no policy: {CONTRACT} is missing; {AGAIN}")
    contract = _contract(where)
    check_seal(where, contract, key, AGAIN)
    digests = contract.get(DIGESTS)
    known = {*NEEDED, *OPTIONAL}
    if not isinstance(digests, dict) or not set(NEEDED) <= set(digests) <= known:
        raise PolicyError(f"{where} does not list the files of a policy; {AGAIN}")
    there = {path.name for path in folder.iterdir()} - {CONTRACT}
    for name in sorted(there - set(digests)):
        raise PolicyError(
            f"{folder / name} is no file of this policy: its folder holds nothing else. Take it "
            f"away, or {AGAIN}"
        )
    for name in sorted(set(digests) - there):
        raise PolicyError(f"{folder / name} is missing; copy the whole folder anew, or {AGAIN}")
    files = {}
    for name, expected in sorted(digests.items()):
        content = _content(folder / name)
        if digest(content) != expected:
            raise PolicyError(
                f"{folder / name} does not match its checksum: it was damaged or edited; copy the "
                f"whole folder anew, or {AGAIN}"
            )
        files[name] = content
    return contract, files


def _contract(path: Path) -> dict[str, Any]:
    """Read a contract that is, byte for byte, what `write_json` writes."""
    content = _content(path)
    try:
        contract = json.loads(content)
        if not isinstance(contract, dict) or contract.get("format") != FORMAT:
            raise PolicyError(f"{path} is not of the format {FORMAT}; {AGAIN}")
        if contract.get("version") != VERSION:
            raise PolicyError(
                f"{path.parent} has version {contract.get('version')} of the format, and this "
                f"kanbatsu reads version {VERSION}: {AGAIN} by this kanbatsu, or install the one "
                "that wrote it"
            )
        text = json.dumps(contract, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        same = text.encode() == content
    except (ValueError, RecursionError) as error:
        if isinstance(error, PolicyError):
            raise
        raise PolicyError(f"{path} is not valid JSON ({error}); {AGAIN}") from None
    if not same:  # 1e-06 and 1E-06 are one number, and not one file
        raise PolicyError(
            f"{path} is not as it was written: it was damaged or edited; copy the whole folder "
            f"anew, or {AGAIN}"
        )
    return contract


def _content(path: Path) -> bytes:
    """Read a file that is one: a pipe would be waited for, and a device read without end."""
    try:
        if not path.is_file():
            raise PolicyError(f"{path} is not a regular file; {AGAIN}")
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path} cannot be read ({error.strerror}); {AGAIN}") from None
