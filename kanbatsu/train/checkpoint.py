"""Checkpoints: arrays in safetensors, facts in JSON, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from kanbatsu.tree import path_name

Tree = TypeVar("Tree")
KEEP = 2
"""Checkpoints kept: the newest, and the one before it in case the newest is damaged."""


class Checkpoint(NamedTuple):
    """Named groups of arrays, and whatever else is needed to continue."""

    arrays: Mapping[str, Mapping[str, np.ndarray]]
    facts: Mapping[str, Any]


def save(folder: Path, name: str, checkpoint: Checkpoint, keep: int = KEEP) -> None:
    """Write a checkpoint atomically and forget all but the newest few.

    A kill or a full disk at any moment leaves the earlier ones as they were.

    Args:
        folder: holds all checkpoints of a run.
        name: sorts after the names of earlier ones.
        checkpoint: what to save.
        keep: how many to keep, this one included.

    Raises:
        OSError, SafetensorError: if it cannot be written; nothing of it is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        digests = {}
        for group, arrays in checkpoint.arrays.items():
            path = draft / f"{group}.safetensors"
            safetensors.numpy.save_file(dict(arrays), path)
            digests[group] = _sync_and_digest(path)
        facts = draft / "facts.json"
        facts.write_text(json.dumps({"facts": checkpoint.facts, "sha256": digests}))
        _sync_and_digest(facts)
        shutil.rmtree(folder / name, ignore_errors=True)
        draft.rename(folder / name)
    except (OSError, safetensors.SafetensorError):
        shutil.rmtree(draft, ignore_errors=True)
        raise
    for old in _names(folder)[:-keep]:
        shutil.rmtree(folder / old)


def load_latest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole; warn of each damaged one that is passed over.

    Returns:
        None where there is none.
    """
    for name in reversed(_names(folder)):
        try:
            return _load(folder / name)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            warnings.warn(
                f"the checkpoint {folder / name} is damaged ({error}); using the one before it",
                stacklevel=2,
            )
    return None


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
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def _load(path: Path) -> Checkpoint:
    record = json.loads((path / "facts.json").read_text())
    arrays = {}
    for group, digest in record["sha256"].items():
        file = path / f"{group}.safetensors"
        if _digest(file) != digest:
            raise ValueError(f"{file.name} does not match its checksum")
        arrays[group] = safetensors.numpy.load_file(file)
    return Checkpoint(arrays, record["facts"])


def _sync_and_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
