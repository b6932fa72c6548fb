"""The health of an SBX model's networks on one batch."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Any

import jax
from jaxtyping import Array, Float

from kanbatsu.integrations.sbx.storing import dense_params

MEMBER = {"VectorCritic": "ContinuousCritic", "SimbaVectorCritic": "SimbaContinuousCritic"}
"""What SBX's ensembles of critics are made of; the classes lie in the same file."""


def probe(
    model: Any, observations: Float[Any, "batch *obs"], actions: Float[Any, "batch action_dim"]
) -> dict[str, Float[Array, ""]]:
    """Measure actor and critic on one batch; of several critics, the first, as the agents do.

    Args:
        model: an SBX model: SAC, TD3 or DDPG.
        observations: from the replay buffer, say.
        actions: in [-1, 1], as the replay buffer stores them.

    Returns:
        What `kanbatsu.flax.probe` returns, as `actor/srank`, `critic/srank` and so on; without
        gradients.

    Raises:
        ValueError: for a model of another algorithm.
    """
    policy = model.policy
    qf = getattr(policy, "qf", None)
    if type(qf).__name__ not in MEMBER or hasattr(policy.qf_state, "batch_stats"):
        raise ValueError(
            "probe knows the networks of SBX's SAC, TD3 and DDPG. For others, call "
            "kanbatsu.flax.probe with a module and its parameters"
        )
    member = getattr(importlib.import_module(type(qf).__module__), MEMBER[type(qf).__name__])
    actor_params, qf_params = (dense_params(policy, name) for name in ("actor", "qf"))
    (ensemble,) = qf_params["params"].values()
    first = {"params": jax.tree.map(lambda leaf: leaf[0], ensemble)}
    rngs = {"dropout": jax.random.key(0)}
    measured = {
        "actor": _probe()(_copy(policy.actor), actor_params, observations),
        "critic": _probe()(_copy(qf, member), first, observations, actions, rngs=rngs),
    }
    return {
        f"{name}/{of}": value for name, probes in measured.items() for of, value in probes.items()
    }


@functools.cache
def _probe() -> Any:
    """The probe of one module, compiled once for all modules that are alike."""
    from kanbatsu.flax import probe as flax_probe  # needs Flax, which pruning does without

    return jax.jit(flax_probe, static_argnums=0)


def _copy(module: Any, kind: Any = None) -> Any:
    """A module with the fields of another one, but hashable: SBX gives its modules lists."""
    kind = kind or type(module)
    fields = {field.name for field in dataclasses.fields(kind)} - {"parent", "name"}
    values = {name: getattr(module, name) for name in fields if hasattr(module, name)}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
