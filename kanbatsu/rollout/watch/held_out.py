"""From held-out logs to a calibrated watch: a journal's samples, or arrays of one's own."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.rollout.config import RolloutSettings
from kanbatsu.rollout.events import Arm
from kanbatsu.rollout.policy.load import load_policy
from kanbatsu.rollout.reading import JOURNAL, Reader, read
from kanbatsu.rollout.stages import read_settings
from kanbatsu.rollout.watch.moments import DriftError, Moments
from kanbatsu.rollout.watch.stored_watch import FILE, StoredWatch

SHARE = 0.25
"""Share of a log that its moments are taken over, where the training data's are not known."""


def calibrate_rollout(folder: Path, logs: Sequence[Path] = ()) -> tuple[StoredWatch, list[str]]:
    """Calibrate the watch of a rollout and store it in its folder, as `drift.json`.

    Args:
        folder: folder of the rollout.
        logs: files of arrays (`.npz`), or folders of journals, in their order in time; the journal
            in the folder of the rollout by default.

    Returns:
        The watch, and sentences that people should read.

    Raises:
        RolloutError: The settings are wrong, or the logs hold nothing that is wanted.
        DriftError: The logs are too short to state the rate that is asked for.
    """
    settings = read_settings(folder / "rollout.toml")
    sources = list(logs) or [folder / JOURNAL]
    parts = [_samples(source, settings) for source in sources]
    observations, actions = (np.concatenate(side) for side in zip(*parts, strict=True))
    whole = np.isfinite(observations).all(axis=1) & np.isfinite(actions).all(axis=1)
    observations, actions = observations[whole], actions[whole]
    notes = []
    if not whole.all():
        notes.append(f"{(~whole).sum():,} samples that hold NaN or infinity are left out")
    moments = _training_moments(settings)
    if moments is None:
        first = int(SHARE * len(observations))
        if not first:
            raise DriftError("the held-out log is empty: log for longer")
        moments = Moments.of(observations[:first])
        observations, actions = observations[first:], actions[first:]
        notes.append(
            f"the moments of the training data are not known: the first {first:,} samples stand "
            "for them"
        )
    made = StoredWatch.made(settings, moments, observations, actions, list(map(str, sources)))
    made.store(folder / FILE)
    return made, [*notes, *made.far()]


def _training_moments(settings: RolloutSettings) -> Moments | None:
    """Return the moments that the candidate's contract holds; None where there are none."""
    if settings.drift.arm != "candidate" or ":" in settings.candidate.policy:
        return None
    policy: Any = load_policy(settings.candidate.policy)
    try:
        return Moments.from_contract(policy.contract)
    except DriftError:
        return None


def _samples(source: Path, settings: RolloutSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return observations and actions of one log."""
    guard = settings.guard
    if source.suffix == ".npz":
        observations, actions = _arrays(source)
    else:
        observations, actions = _recorded(source, settings.drift.arm)
    wanted = guard.obs_dim, guard.action_dim
    shapes = observations.shape, actions.shape
    if any(len(shape) != 2 for shape in shapes) or (shapes[0][1], shapes[1][1]) != wanted:
        raise DriftError(
            f"{source} holds observations {list(shapes[0])} and actions {list(shapes[1])}: [samples"
            f", {wanted[0]}] and [samples, {wanted[1]}] are wanted, as rollout.toml says"
        )
    if len(observations) != len(actions):
        raise DriftError(
            f"{source} holds {len(observations):,} observations and {len(actions):,} actions: one "
            "action for each observation is wanted"
        )
    return observations, actions


def _arrays(source: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(source) as table:
            arrays = [np.asarray(table[name], np.float64) for name in ("observations", "actions")]
    except KeyError as error:
        raise DriftError(
            f"{source} holds no array {error}: `observations` [samples, features] and `actions` "
            "[samples, actions] are wanted"
        ) from error
    except (ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise DriftError(
            f"{source} holds no arrays that can be read ({error}): write it with numpy.savez, or "
            "name the folder of a journal"
        ) from error
    return arrays[0], arrays[1]


def _recorded(source: Path, arm: Arm) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples of one arm in a journal."""
    reader = Reader(source)
    events = [e for e in read(source, {"samples"}, reader=reader) if e.get("arm") == arm]
    if not events:
        raise DriftError(
            f"{source} holds no samples of the {arm}: let the service record some (record = true "
            "in [drift] of rollout.toml), or name logs with --logs FILE.npz"
        )
    seen, acted = (
        [row for event in events for row in event[name]] for name in ("observations", "actions")
    )
    # What was not finite is None in JSON, and NaN again in an array.
    return np.array(seen, np.float64), np.array(acted, np.float64)
