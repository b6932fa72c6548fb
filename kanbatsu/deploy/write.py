"""Writes a policy: its layers, its contract, and the proof that it acts as the original does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from kanbatsu.deploy import golden
from kanbatsu.deploy.bundle import ARRAYS, C99, DESCRIPTION, ONNX, check_folder, write_bundle
from kanbatsu.deploy.contract import Contract, Image, Moments, side
from kanbatsu.deploy.files import decode, encode
from kanbatsu.deploy.forms import other_forms
from kanbatsu.deploy.layers import Choose, Clip, Layer, Normalise, Squash
from kanbatsu.deploy.policy import Policy
from kanbatsu.deploy.seal import Key, digest, key_of
from kanbatsu.machine import versions

Bound = float | int | Sequence[float | int] | np.ndarray
UNIT = (-1.0, 1.0)
"""Bounds of an actor, before an environment rescales."""
PARITY = {ONNX: "onnx", C99: "c"}
"""Words for other forms of a policy in its golden pairs."""
PACKAGES = ("kanbatsu", "numpy", "jax", "equinox", "torch", "stable-baselines3", "onnx")


class ParityError(ValueError):
    """An exported policy that does not act as the original does."""


@dataclass(frozen=True)
class Original:
    """The policy that is exported, as its own library computes it."""

    act: Callable[[np.ndarray], np.ndarray]
    """Function of float32 `[pairs, obs_dim]` to `[pairs, action_dim]`."""
    name: str
    """Words for it in the contract, such as `model.predict`."""


@dataclass(frozen=True)
class Export:
    """Way in which a policy is written, beside what it computes."""

    contract: Contract = field(default_factory=Contract)
    """Names, units, ranges, provenance: whatever is known."""
    key: Key | None = None
    """Path of a key file to sign with; that of `KANBATSU_POLICY_KEY` by default, or none."""
    tolerance: float = golden.TOLERANCE
    """Largest difference from the original, in halves of an action's range."""
    onnx: bool | None = None
    """Flag of an ONNX model; by default it is written where the package onnx is installed."""
    c: bool = False
    """Flag of one file of C99, for machines without Python."""


def write_policy(
    layers: Sequence[Layer],
    out_dir: str | os.PathLike[str],
    original: Original,
    how: Export,
    *,
    environment: Mapping[str, Any] | None = None,
    moments: Moments | None = None,
    seen: float | None = None,
    image: Image | None = None,
) -> None:
    """Write the layers of a policy, wherever they come from.

    Args:
        layers: as `kanbatsu.deploy.layers` describes them: a `Normalise` first, an `End` last.
        out_dir: as in `export`.
        original: what the golden pairs are compared with.
        how: contract, key, tolerance and forms.
        environment: what is known of the environment, as JSON; nothing by default.
        moments: of the training data, where they are known.
        seen: observations that the normaliser is made from, where it is.
        image: what an observation is, if it is an image.

    Raises:
        ValueError: if the layers do not fit each other, or a number is not finite.
        ParityError: the policy differs from the original by more than the tolerance.
        FileExistsError: the folder holds other files.
    """
    folder = Path(out_dir)
    check_folder(folder)
    key_of(how.key)
    entries, arrays = encode(layers)
    decode(entries, arrays)  # what load would refuse is never written
    policy = Policy(layers, {})
    contract = _contract(policy, layers, how.contract, environment, moments, seen, image)
    observation = contract["observation"]
    candidates, source = golden.draw(
        policy.obs_dim,
        moments,
        observation["low"],
        observation["high"],
        golden.CANDIDATES,
        pixels=image is not None and image.dtype == "uint8",
    )
    pairs = golden.PAIRS if image is None else golden.PAIRS_OF_IMAGES
    observations = golden.clearest(layers, candidates, pairs)
    actions = policy(observations)
    wanted = np.asarray(original.act(observations)).reshape(actions.shape)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    files = {
        DESCRIPTION: (json.dumps({"layers": entries}, indent=1, sort_keys=True) + "\n").encode(),
        ARRAYS: safetensors.numpy.save(arrays),
    }
    known: dict[str, Any] = {
        "observations": observations.astype(float).tolist(),
        "actions": actions.reshape(-1, policy.action_dim).astype(float).tolist(),
        "drawn_from": source,
        "seed": golden.SEED,
        "compared_with": original.name,
        "parity_error": _compared(policy, actions, wanted, how.tolerance, original.name),
        **{f"{form}_{what}": None for form in PARITY.values() for what in ("parity_error", "by")},
        "tolerance": float(how.tolerance),
    }
    contract["golden"] = known
    whole = contract | {"sha256": {name: digest(content) for name, content in files.items()}}
    for form in other_forms(layers, whole, observations, folder, onnx=how.onnx, c=how.c):
        files[form.name] = form.content
        if form.actions is not None:
            name, word = f"{original.name} ({form.name})", PARITY[form.name]
            error = _compared(policy, form.actions, wanted, how.tolerance, name)
            known |= {f"{word}_parity_error": error, f"{word}_by": form.computed_by}
    write_bundle(folder, files, contract, how.key)


def _compared(
    policy: Policy, actions: np.ndarray, wanted: np.ndarray, tolerance: float, name: str
) -> float:
    error = golden.difference(actions, wanted, policy.low, policy.high)
    if not error <= tolerance:
        raise ParityError(
            f"the exported policy does not act as {name} does: of {len(actions)} actions one "
            f"differs by {error:.3g} halves of its range, and {tolerance:.3g} is allowed. Nothing "
            "was written; if that is rounding, name a larger tolerance"
        )
    return error


def _contract(
    policy: Policy,
    layers: Sequence[Layer],
    given: Contract,
    environment: Mapping[str, Any] | None,
    moments: Moments | None,
    seen: float | None,
    image: Image | None,
) -> dict[str, Any]:
    """Everything but the golden pairs, as JSON."""
    begin = layers[0]
    assert isinstance(begin, Normalise)
    observation = side(
        "observation",
        policy.obs_dim,
        names=given.observation_names,
        units=given.observation_units,
        low=given.observation_low,
        high=given.observation_high,
    )
    action = side(
        "action",
        policy.action_dim,
        names=given.action_names,
        units=given.action_units,
        low=policy.low,
        high=policy.high,
    )
    parts = None
    if given.observation_parts is not None and given.observation_lengths is not None:
        parts = [
            list(part)
            for part in zip(given.observation_parts, given.observation_lengths, strict=True)
        ]
    return {
        "observation": {
            **observation,
            "shape": [policy.obs_dim] if image is None else list(image.shape),
            "dtype": "float32" if image is None else image.dtype,
            "parts": parts,
            "channels_first": image is not None and image.channels_first,
        },
        "action": {**action, **_kind(layers[-1])},
        "control_period_seconds": given.control_period,
        "action_repeat": given.action_repeat,
        "environment": dict(environment or {}),
        "normaliser": {
            "frozen": True,
            "observations_seen": seen,
            **{name: array.astype(float).tolist() for name, array in begin._asdict().items()},
        },
        "training_data": (
            {"absent": "the exporter was given no training data and no normaliser that saw any"}
            if moments is None
            else moments.table()
        ),
        "provenance": {
            "run_id": given.run_id,
            "record_sha256": given.record_sha256,
            "commit": given.commit,
            "licence": given.licence,
            "verdict": given.verdict,
            "versions": versions(PACKAGES),
        },
    }


def _kind(end: Layer) -> dict[str, Any]:
    """Say what kind of actions a policy ends with."""
    if isinstance(end, Choose):
        shape = [] if end.scalar else [end.sizes.size]
        return {"kind": "choices", "choices": end.sizes.tolist(), "shape": shape, "dtype": "int64"}
    assert isinstance(end, Squash | Clip)
    return {"kind": "continuous", "shape": [end.low.size], "dtype": "float32"}
