"""Checkpoints: arrays in safetensors, facts in JSON, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from kanbatsu.files.disk import digest, read_json, replace, sealed
from kanbatsu.files.shape import Each
from kanbatsu.tree import path_name

Tree = TypeVar("Tree")
KEEP = 2
"""Checkpoints kept: the newest, and the one before it in case the newest is damaged."""

FACTS = "facts.json"
DRAFT = ".draft"
"""End of the hidden names of folders that are being written or removed."""


class Checkpoint(NamedTuple):
    """Named groups of arrays, and whatever else is needed to continue."""

    arrays: Mapping[str, Mapping[str, np.ndarray]]
    facts: Mapping[str, Any]


def save(folder: Path, name: str, checkpoint: Checkpoint, keep: int = KEEP) -> None:
    """Write a checkpoint atomically and forget all but the newest few.

    A kill or a full disk at any moment leaves the earlier ones as they were. Whatever else lies in
    the folder is no checkpoint, and stays.

    Args:
        folder: folder of all checkpoints of a run.
        name: name of digits, which sorts after the names of earlier ones.
        checkpoint: arrays and facts to save.
        keep: number of checkpoints to keep, this one included.

    Raises:
        OSError, SafetensorError: if it cannot be written; nothing of it is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".*{DRAFT}"):
        _remove(left)
    draft = _beside(folder / name)
    try:
        draft.mkdir()
        digests = {}
        for group, arrays in checkpoint.arrays.items():
            path = draft / f"{group}.safetensors"
            safetensors.numpy.save_file(dict(arrays), path)
            digests[group] = _sync_and_digest(path)
        record = sealed({"facts": checkpoint.facts, "sha256": digests})
        replace(draft / FACTS, json.dumps(record))
        for group in digests:  # safetensors lets nobody else read what it writes
            shutil.copymode(draft / FACTS, draft / f"{group}.safetensors")
        _forget(folder / name)
        draft.rename(folder / name)
    except (OSError, safetensors.SafetensorError):
        _remove(draft)
        raise
    for old in _names(folder)[:-keep]:
        try:
            _forget(folder / old)
        except OSError as error:
            warnings.warn(
                f"the checkpoint {folder / old} cannot be removed now ({error}); the run goes on",
                stacklevel=2,
            )


def load_latest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole; warn of each damaged one that is passed over.

    Returns:
        None where there is none.
    """
    damaged: dict[str, Exception] = {}
    whole, names = None, _names(folder)
    while names and whole is None:
        try:
            whole = _load(folder / names[-1])
        except (OSError, ValueError, safetensors.SafetensorError) as fault:
            damaged[names.pop()] = fault
    remedy = "using the one before it" if names else "no other is whole, so a run starts over"
    for name, why in damaged.items():
        warnings.warn(f"the checkpoint {folder / name} is damaged ({why}); {remedy}", stacklevel=2)
    return whole


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Name every array of a tree by its path.

    Example:
        >>> to_arrays({"w": [jnp.ones(2)]})
        {'w/0': array([1., 1.], dtype=float32)}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(keys): np.asarray(leaf) for keys, leaf in leaves}


def from_arrays(template: Tree, arrays: Mapping[str, np.ndarray]) -> Tree:
    """Fill a tree of the same structure with named arrays.

    Raises:
        ValueError: if a name is missing or left over, or a shape or type differs.

    Example:
        >>> from_arrays({"w": jnp.zeros(2)}, {"w": np.ones(2, np.float32)})
        {'w': Array([1., 1.], dtype=float32)}
    """
    names = {path_name(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(template)}
    if names != set(arrays):
        raise ValueError(
            f"the checkpoint does not fit this agent: {sorted(names ^ set(arrays))} differ"
        )

    def fill(keys: Any, leaf: Any) -> jax.Array:
        array = arrays[path_name(keys)]
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise ValueError(
                f"{path_name(keys)} is {array.dtype}{array.shape} in the checkpoint, "
                f"{leaf.dtype}{leaf.shape} in this agent"
            )
        return jnp.array(array)

    return jax.tree_util.tree_map_with_path(fill, template)


def _names(folder: Path) -> list[str]:
    """Return the names of checkpoints, oldest first: folders named by a number, nothing else."""
    found = (path for path in folder.glob("[0-9]*") if path.name.isdigit() and path.is_dir())
    return sorted(path.name for path in found)


def _beside(path: Path) -> Path:
    """Return a name that no process has used for something on its way in or out."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{DRAFT}")


def _forget(path: Path) -> None:
    """Take a checkpoint out of the way at once; files in use elsewhere may go later."""
    if path.exists():
        gone = _beside(path)
        path.rename(gone)
        _remove(gone)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path)


def _load(path: Path) -> Checkpoint:
    record = read_json(path / FACTS, {"facts": dict, "sha256": Each(str)})
    arrays = {}
    for group, expected in record["sha256"].items():
        file = path / f"{group}.safetensors"
        if digest(file) != expected:
            raise ValueError(f"{file.name} does not match its checksum")
        arrays[group] = safetensors.numpy.load_file(file)
    return Checkpoint(arrays, record["facts"])


def _sync_and_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return digest(path)
