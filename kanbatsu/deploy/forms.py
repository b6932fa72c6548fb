"""Other forms of a policy beside its own files: an ONNX model, and one file of C."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kanbatsu.deploy.bundle import C99, ONNX
from kanbatsu.deploy.c_check import compiler, run_c
from kanbatsu.deploy.c_file import entry_types, to_c
from kanbatsu.deploy.layers import Layer

log = logging.getLogger(__name__)


class Form(NamedTuple):
    """One more file with the same policy."""

    name: str
    """Name of the file."""
    content: bytes
    actions: np.ndarray | None
    """Actions that it gives for the golden observations; None where nothing here can run it."""
    computed_by: str | None
    """Program that computed them."""


def other_forms(
    layers: Sequence[Layer],
    contract: Mapping[str, Any],
    observations: np.ndarray,
    folder: Path,
    *,
    onnx: bool | None,
    c: bool,
) -> Iterator[Form]:
    """Make the other forms of a policy that are wanted, and compute their actions.

    Args:
        layers: the policy.
        contract: with the golden pairs and the checksums of the policy's own files.
        observations: float32 `[pairs, obs_dim]`, those of the golden pairs.
        folder: where they will be written, for messages.
        onnx: as in `kanbatsu.deploy.write.Export`.
        c: likewise.

    Raises:
        ValueError: an ONNX model is wanted, and the package onnx is missing.
    """
    if onnx is not False and _has_onnx(folder, onnx):
        from kanbatsu.deploy.onnx_file import run_onnx, to_onnx

        model = to_onnx(layers)
        yield Form(ONNX, model, *run_onnx(model, observations))
    if c:
        source = to_c(layers, contract)
        actions = run_c(source, observations, contract["action"]["size"], *entry_types(contract))
        if actions is None:
            log.warning(
                "%s was not compared with the original: this machine has no C compiler. Compile it "
                "with -DKANBATSU_MAIN where there is one: that program checks the golden pairs",
                folder / C99,
            )
        yield Form(C99, source.encode(), actions, None if actions is None else compiler())


def _has_onnx(folder: Path, wanted: bool | None) -> bool:
    """Say where the package onnx is missing; refuse where the model is wanted."""
    if importlib.util.find_spec("onnx") is not None:
        return True
    missing = "the package onnx is missing. `pip install 'kanbatsu[onnx]'` and export again"
    if wanted:
        raise ValueError(f"{folder / ONNX} cannot be written: {missing}")
    log.warning(
        "%s was not written: %s, if you want it; kanbatsu.deploy.load does not need it.",
        folder / ONNX,
        missing,
    )
    return False
