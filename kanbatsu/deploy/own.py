"""Exports a policy of kanbatsu's own agents: of a run, or in memory."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kanbatsu.agents import AGENTS
from kanbatsu.agents.remedied import Pace, remedied
from kanbatsu.deploy.contract import Contract, Moments
from kanbatsu.deploy.families import FEWEST_SEEN, Acting, Known, acting_of, reader_of, seen_by
from kanbatsu.deploy.golden import TOLERANCE
from kanbatsu.deploy.network import policy_layers
from kanbatsu.deploy.seal import Key
from kanbatsu.deploy.task import contract_of_task, first_choice
from kanbatsu.deploy.write import Bound, Export, Original, write_policy
from kanbatsu.files.store import RunFolder
from kanbatsu.files.tables import canonical_hash
from kanbatsu.nn.normaliser import Normaliser
from kanbatsu.run.record import Run, run_from_dict
from kanbatsu.train.checkpoint import from_arrays, load_latest, to_arrays

log = logging.getLogger(__name__)

UNIT = (-1.0, 1.0)
"""Bounds of an actor, before an environment rescales."""


def export(
    run: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    low: Bound | None = None,
    high: Bound | None = None,
    contract: Contract | None = None,
    key: Key | None = None,
    tolerance: float = TOLERANCE,
    onnx: bool | None = None,
    c: bool = False,
) -> None:
    """Write the policy of a run's newest checkpoint, and what the run knew of its environment.

    Args:
        run: the run's folder, OUT/runs/<run id>.
        out_dir: folder of its own, which gets `policy.json`, `policy.safetensors` and
            `contract.json`.
        low: lowest value of each entry of an action, `[action_dim]` or one for all; that of the
            run's environment by default. Agents act in [-1, 1] and the environment rescales, which
            the exported policy does by itself. Of actions that are choices it is not read.
        high: highest value likewise.
        contract: what you know beside what the run does: names, units, licence, verdict.
        key: path of a key file to sign the policy with; that of the environment variable
            `KANBATSU_POLICY_KEY` by default, or no signature.
        tolerance: largest difference between an exported action and the agent's, in halves of the
            action's range.
        onnx: flag of `policy.onnx`; by default it is written where the package onnx is installed.
        c: flag of `policy.c`, one file of C99 for machines without Python.

    Raises:
        FileNotFoundError: if the folder holds no run, or the run no checkpoint.
        FileExistsError: if `out_dir` holds other files.
        ValueError: if its agent or its network cannot be exported, a number is not finite, the
            bounds do not fit, or the run does not say them.
        ParityError: if the exported policy differs from the agent by more than the tolerance.
    """
    files = RunFolder(Path(run))
    if not (files.path / "config.json").exists():
        raise FileNotFoundError(
            f"{run} is not the folder of a run: config.json is missing. Name OUT/runs/<run id>"
        )
    record = files.read_config()
    agent = record["agent"]
    reader_of(agent)  # which refuses what cannot be exported
    checkpoint = load_latest(files.checkpoint)
    if checkpoint is None:
        raise FileNotFoundError(
            f"{run} holds no checkpoint: it was trained with --train.checkpoint-every 0, or has "
            "not reached its first one"
        )
    environment = files.environment()
    low = environment.get("low") if low is None else low
    high = environment.get("high") if high is None else high
    if AGENTS[agent].discrete:
        low = high = None
    elif low is None or high is None:
        raise ValueError(
            f"{run} does not say the bounds of its actuators: it is older than their record, or "
            "its environment is not one of Gymnasium's and keeps them to itself. Name them, low= "
            "and high=, or -1 and 1 if whoever takes the actions rescales them"
        )
    else:
        environment |= {"low": np.ravel(low).tolist(), "high": np.ravel(high).tolist()}
    # Around an agent with remedies there is a state of their own.
    arrays = {n.removeprefix("inner/"): array for n, array in checkpoint.arrays["agent"].items()}
    settings = run_from_dict({name: x for name, x in record.items() if name != "checksum"})
    known = Known(settings.config, environment, low, high, first_choice(environment))
    acting = acting_of(agent, arrays, known)
    said = contract_of_task(environment) if acting.image is None else Contract()
    provenance = Contract(run_id=files.path.resolve().name, record_sha256=canonical_hash(record))
    moments = None if acting.image else _past(checkpoint.arrays.get("past")) or acting.moments
    write_policy(
        acting.layers,
        out_dir,
        _agent_of(settings, checkpoint.arrays["agent"], acting, known),
        Export((contract or Contract()).over(provenance.over(said)), key, tolerance, onnx, c),
        environment=environment,
        moments=moments,
        seen=acting.seen,
        image=acting.image,
    )


def export_policy(
    actor: Any,
    normaliser: Normaliser,
    out_dir: str | os.PathLike[str],
    *,
    low: Bound | None = None,
    high: Bound | None = None,
    contract: Contract | None = None,
    key: Key | None = None,
    tolerance: float = TOLERANCE,
    onnx: bool | None = None,
    c: bool = False,
) -> None:
    """Write the policy of an agent in memory.

    Args:
        actor: the `Network` of a SAC or DDPG state.
        normaliser: of the same state.
        out_dir: as in `export`.
        low: as in `export`, but -1 by default, and the log says so: no environment is known here.
        high: likewise, 1 by default.
        contract: as in `export`.
        key: as in `export`.
        tolerance: as in `export`.
        onnx: as in `export`.
        c: as in `export`.

    Raises:
        ValueError: as in `export`.

    Example:
        >>> import jax, tempfile
        >>> from kanbatsu.agents.ddpg import DDPG, DDPGConfig
        >>> from kanbatsu.nn.config import CriticConfig, NetworkConfig
        >>> config = DDPGConfig(NetworkConfig(width=8, blocks=1), CriticConfig(width=8, blocks=1))
        >>> from kanbatsu.types import Spec
        >>> state = DDPG(Spec((3,), 1, episode_length=100), config).init(jax.random.key(0))
        >>> folder = Path(tempfile.mkdtemp())
        >>> export_policy(state.actor, state.normaliser, folder, low=-2.0, high=2.0)
        >>> [(folder / name).exists() for name in ("policy.json", "contract.json")]
        [True, True]
    """
    if low is None or high is None:
        log.warning(
            "the bounds of the actuators are not known, so actions lie in [-1, 1]: name low= and "
            "high= if nothing rescales them"
        )
    low, high = (unit if x is None else x for unit, x in zip(UNIT, (low, high), strict=True))
    mean, variance = np.asarray(normaliser.mean), np.asarray(normaliser.variance)
    layers = policy_layers(to_arrays(actor), mean, variance, low, high)
    ends: Any = layers[-1]

    def act(obs: np.ndarray) -> np.ndarray:
        out = eqx.filter_jit(actor)(normaliser.normalise(jnp.asarray(obs)))
        unit = jnp.tanh(out[0]) if isinstance(out, tuple) else out
        return ends.centre + ends.half * np.asarray(unit)

    write_policy(
        layers,
        out_dir,
        Original(act, type(actor).__name__),
        Export(contract or Contract(), key, tolerance, onnx, c),
        moments=seen_by(mean, variance, float(normaliser.count)),
        seen=float(normaliser.count),
    )


def _agent_of(run: Run, arrays: Any, acting: Acting, known: Known) -> Original:
    """The greedy action of a run's agent, brought to the bounds, or the number of its choice."""
    agent: Any = AGENTS[run.agent].agent(acting.spec, run.config)
    pace: Any = run.train  # plays no part in acting
    if run.remedy:
        agent = remedied(agent, run.remedy, Pace.of(pace, 1, run.env_steps))
    state = from_arrays(agent.init(jax.random.key(0)), arrays)
    spec = acting.spec

    def act(obs: np.ndarray) -> np.ndarray:
        observed = obs.reshape(-1, *spec.obs_shape).astype(spec.obs_dtype)
        action = np.asarray(jax.jit(agent.act_greedy)(state, jnp.asarray(observed)))
        if spec.discrete:
            return action.argmax(axis=-1) + known.start
        bottom, top = (np.asarray(end, np.float32) for end in (known.low, known.high))
        return (bottom + top) / 2 + (top - bottom) / 2 * action

    return Original(act, f"act_greedy of {run.agent}")


def _past(past: Any) -> Moments | None:
    """The moments of what is left in a run's replay; a finished run has none."""
    if past is None or len(past["obs"]) < FEWEST_SEEN:
        return None
    return Moments.of("replay", past["obs"])
