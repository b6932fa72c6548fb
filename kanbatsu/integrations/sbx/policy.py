"""Pruning of an SBX model's policy, once, before `learn`."""

from __future__ import annotations

import glob
from typing import Any

import jax

from kanbatsu.integrations.sbx.networks import ACTORS, CRITICS, states_of
from kanbatsu.integrations.sbx.storing import install, is_stored, store_dense, store_kept
from kanbatsu.sparsity.compute import resolve
from kanbatsu.sparsity.config import check_choice
from kanbatsu.sparsity.draw import Sparsity
from kanbatsu.sparsity.kernel import Paths
from kanbatsu.sparsity.prune import make_masks
from kanbatsu.sparsity.roles import find_kernels


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
    storage: str = "dense",
) -> None:
    """Remove a share of the weights of an SBX model, once, at random, in place, before `learn`.

    Weights are set to zero, the optimizers are wrapped in `keep_pruned` and start afresh, and
    target networks start equal to the online ones. Each critic of an ensemble gets masks of its
    own. On CPUs large layers multiply by their kept weights only. `model.save` and `load` keep
    everything, and so does `param_resets`.

    With `storage="kept"` the parameters are kept values alone, under names of their own (see
    `kanbatsu.flax.to_kept`), and the optimizers begin afresh on those with the settings that they
    had: moments and targets are as small as the networks are sparse.

    Args:
        model: an SBX model that has not trained: SAC, TD3, DDPG, TQC, CrossQ, DQN or PPO.
        actor: share of the actor's weights to remove, in [0, 1); 0 leaves it dense.
        critic: the same for the critics, the Q-network of DQN and the value network of PPO.
        seed: decides which weights go; a whole number below 2**32.
        distribution: how the sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element`, `grouped` or `bernoulli`, as for `kanbatsu.prune`.
        group_size: outputs per group, for `grouped`.
        include: globs of the only kernels to prune, such as `qf/*`; paths start with what
            SBX calls the network (`actor`, `qf`, `vf`), and `count(model)` lists them.
        exclude: globs of kernels to leave dense.
        compute: `auto`, `masked`, `mixed` or `packed`, as for `kanbatsu.flax.packed`; the
            critics of TQC are always masked where dense arrays are stored.
        storage: `dense` or `kept`.

    Raises:
        ValueError: for another `compute` or `storage`, a seed outside [0, 2**32), a model that is
            no SBX model, is already pruned or has trained, a glob that matches nothing, and as for
            `kanbatsu.make_masks`. The model is then as it was.

    Example:
        >>> from sbx import SAC  # doctest: +SKIP
        >>> model = SAC("MlpPolicy", "Pendulum-v1")  # doctest: +SKIP
        >>> prune_policy(model, actor=0.8, critic=0.9)  # doctest: +SKIP
        >>> model.learn(10_000)  # doctest: +SKIP
    """
    compute = resolve(compute)
    check_choice("storage", storage, ("dense", "kept"))
    if not 0 <= seed < 1 << 32:
        raise ValueError(
            f"seed must lie in [0, 2**32), or it would draw the masks of another one: got {seed}"
        )
    states = states_of(model)
    policy = model.policy
    if is_stored(policy):
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
        (store_kept if storage == "kept" else store_dense)(policy, masks, compute)
        policy.build = _Rebuild(policy)


class _Rebuild:
    """Builds a policy's networks anew, as `param_resets` asks for, and prunes them as before."""

    def __init__(self, policy: Any):
        self.policy = policy

    def __call__(self, *arguments: Any) -> Any:
        key = type(self.policy).build(self.policy, *arguments)
        install(self.policy)
        return key
