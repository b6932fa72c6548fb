"""SBX (Stable-Baselines in JAX): prune a model's networks once, before `learn`, and look inside."""

from __future__ import annotations

import dataclasses
import functools
import glob
import importlib
from typing import Any

import jax
from jaxtyping import Array, Float

from kanbatsu.sparsity.compute import resolve
from kanbatsu.sparsity.count import Count
from kanbatsu.sparsity.count import count as count_tree
from kanbatsu.sparsity.draw import Sparsity
from kanbatsu.sparsity.kernel import Paths
from kanbatsu.sparsity.masks import apply_masks, keep_pruned
from kanbatsu.sparsity.prune import make_masks
from kanbatsu.sparsity.roles import find_kernels

ACTORS = ("actor",)
CRITICS = ("qf", "qf1", "qf2", "vf")
"""What SBX calls its networks; each has a train state, `policy.qf_state` for one."""
MASKS = "pruning_masks"
"""Attribute of a pruned policy that holds its masks, by network; they are saved with it."""
COMPUTE = "pruning_compute"
"""Attribute of a pruned policy that says how its layers multiply."""
MEMBER = {"VectorCritic": "ContinuousCritic", "SimbaVectorCritic": "SimbaContinuousCritic"}
"""What SBX's ensembles of critics are made of; the classes lie in the same file."""


def prune_policy(
    model: Any,
    actor: Sparsity = 0.8,
    critic: Sparsity = 0.8,
    *,
    seed: int = 0,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths = (),
    exclude: Paths = (),
    compute: str = "auto",
) -> None:
    """Remove a share of the weights of an SBX model, once, at random, in place, before `learn`.

    Weights are set to zero, the optimizers are wrapped in `keep_pruned` and start afresh, and
    target networks start equal to the online ones. Each critic of an ensemble gets masks of its
    own. On CPUs large layers multiply by their kept weights only. `model.save` and `load` keep
    everything, and so does `param_resets`.

    Args:
        model: an SBX model that has not trained: SAC, TD3, DDPG, TQC, CrossQ, DQN or PPO.
        actor: share of the actor's weights to remove, in [0, 1); 0 leaves it dense.
        critic: the same for the critics, the Q-network of DQN and the value network of PPO.
        seed: decides which weights go.
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element`, `grouped` or `bernoulli`, as for `kanbatsu.prune`.
        group_size: outputs per group, for `grouped`.
        include: path patterns of the only kernels to prune, such as `qf/*`; paths start with what
            SBX calls the network (`actor`, `qf`, `vf`), and `count(model)` lists them.
        exclude: path patterns of kernels to leave dense.
        compute: `auto`, `masked`, `mixed` or `packed`, as for `kanbatsu.flax.packed`; the
            critics of TQC are always masked.

    Raises:
        ValueError: for another `compute`, for a model that is no SBX model, is already pruned or
            has trained, for a pattern that matches nothing, and as for `kanbatsu.make_masks`. The
            model is then as it was.

    Example:
        >>> from sbx import SAC  # doctest: +SKIP
        >>> model = SAC("MlpPolicy", "Pendulum-v1")  # doctest: +SKIP
        >>> prune_policy(model, actor=0.8, critic=0.9)  # doctest: +SKIP
        >>> model.learn(10_000)  # doctest: +SKIP
    """
    compute = resolve(compute)
    states = _states(model)
    policy = model.policy
    if hasattr(policy, MASKS):
        raise ValueError(
            "this model is already pruned; prune a fresh one (see count(model) for what it keeps)"
        )
    updates = max(int(state.step) for state in states.values())
    if updates:
        raise ValueError(
            f"this model has trained for {updates} updates already: pruning happens once, before "
            "training. Prune a fresh one before `learn`"
        )
    trees = {name: state.params for name, state in states.items()}
    kernels = find_kernels(trees, include, exclude)
    if not kernels:
        raise ValueError("there is nothing to prune: exclude takes out all that include names")
    keys = jax.random.split(jax.random.key(seed), len(ACTORS + CRITICS))
    masks = {}
    for name, key in zip(ACTORS + CRITICS, keys, strict=True):
        sparsity = actor if name in ACTORS else critic
        chosen = [glob.escape(path) for path in kernels if path.startswith(f"{name}/")]
        if chosen and sparsity != 0.0:
            masks[name] = make_masks(
                {name: trees[name]},
                sparsity,
                key=key,
                distribution=distribution,
                pattern=pattern,
                group_size=group_size,
                include=chosen,
                # SBX says which of its critics are ensembles, where shapes alone might not.
                ensemble="*" if name == "qf" and hasattr(policy.qf, "n_critics") else (),
            )[name]
    if masks:
        setattr(policy, MASKS, masks)
        setattr(policy, COMPUTE, compute)
        _install(policy)
        policy.build = _Rebuild(policy)


def count(model: Any) -> Count:
    """Count kept and total weights of every kernel of an SBX model, pruned or not.

    Returns:
        The table that `kanbatsu.count` returns; paths start with the name of the network.

    Raises:
        ValueError: for a model that is no SBX model.
    """
    trees = {name: state.params for name, state in _states(model).items()}
    return count_tree(trees, getattr(model.policy, MASKS, {}))


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
    (ensemble,) = policy.qf_state.params["params"].values()
    first = {"params": jax.tree.map(lambda leaf: leaf[0], ensemble)}
    rngs = {"dropout": jax.random.key(0)}
    measured = {
        "actor": _probe()(_copy(policy.actor), policy.actor_state.params, observations),
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


def _states(model: Any) -> dict[str, Any]:
    """The train states of a model's networks, by SBX's name of the network."""
    policy = getattr(model, "policy", None)
    states = {
        name: getattr(policy, f"{name}_state")
        for name in ACTORS + CRITICS
        if hasattr(policy, f"{name}_state")
    }
    if not states:
        raise ValueError(
            f"{type(model).__name__} is no SBX model: it has no policy with train states. Models "
            "of Stable-Baselines3 go to kanbatsu.integrations.sb3.prune_policy"
        )
    return states


def _install(policy: Any) -> None:
    """Put masked weights, sparse products, wrapped optimizers and equal targets in place."""
    from kanbatsu.flax import packed

    states = {}
    for name, mask in getattr(policy, MASKS).items():
        state = getattr(policy, f"{name}_state")
        params = apply_masks(state.params, mask)
        optimizer = keep_pruned(state.tx, mask)
        targets = {"target_params": params} if hasattr(state, "target_params") else {}
        apply = state.apply_fn
        if name not in ("qf1", "qf2"):  # TQC applies one of them to the parameters of both
            apply = packed(getattr(policy, name), mask, compute=getattr(policy, COMPUTE))
        states[f"{name}_state"] = state.replace(
            apply_fn=apply,
            params=params,
            tx=optimizer,
            opt_state=optimizer.init(params),
            **targets,
        )
    for name, state in states.items():
        setattr(policy, name, state)


class _Rebuild:
    """Builds a policy's networks anew, as `param_resets` asks for, and prunes them as before."""

    def __init__(self, policy: Any):
        self.policy = policy

    def __call__(self, *arguments: Any) -> Any:
        key = type(self.policy).build(self.policy, *arguments)
        _install(self.policy)
        return key
