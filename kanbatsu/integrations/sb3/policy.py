"""Prunes the networks of a Stable-Baselines3 model once, and lets its own `load` find the masks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from kanbatsu.integrations.sb3.networks import Networks
from kanbatsu.sparsity.draw import Scope
from kanbatsu.sparsity.kernel import Paths
from kanbatsu.torch.again import MESSAGE, is_pruned_so
from kanbatsu.torch.counting import count
from kanbatsu.torch.kept import put_kept
from kanbatsu.torch.layers import put_mask
from kanbatsu.torch.loading import check_when_loading
from kanbatsu.torch.places import Places
from kanbatsu.torch.pruning import apply_masks, prune
from kanbatsu.torch.reading import masks

DEFAULT = 0.8
"""The sparsity of a network that nothing is said about."""
Model = TypeVar("Model", bound=BaseAlgorithm)


@dataclass(frozen=True)
class PrunedPolicy:
    """What `model.policy_class` becomes: the same policy, with room for masks.

    Stable-Baselines3 saves the class, and calls it in `load` before it fills in the saved weights.
    """

    policy_class: type[BasePolicy]
    """The class before pruning."""
    paths: tuple[str, ...]
    """The weights that have masks, by their names in the policy."""
    compute: str = "auto"
    """How these weights are multiplied: `auto`, `masked` or `packed`."""
    storage: str = "dense"
    """What their parameters are: `dense` or `kept`."""

    @property
    def __name__(self) -> str:
        """The name of the class: Stable-Baselines3 asks for it."""
        return self.policy_class.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> BasePolicy:
        """Build a policy whose masks keep everything, until a saved policy is loaded into it."""
        policy = self.policy_class(*args, **kwargs)
        for path in self.paths:
            weight = policy.get_parameter(path)
            layer = policy.get_submodule(path.rpartition(".")[0])
            mask = torch.ones_like(weight)
            if self.storage == "kept":
                put_kept(layer, Places(mask.bool().cpu().numpy()), self.compute)
            else:
                put_mask(layer, mask, self.compute)
        check_when_loading(policy)
        return policy


def prune_policy(
    model: Model,
    actor: float | None = None,
    critic: float | None = None,
    features: float = 0.0,
    *,
    seed: int = 0,
    distribution: str = "erk",
    pattern: str = "element",
    group_size: int = 16,
    include: Paths | None = None,
    exclude: Paths | None = None,
    compute: str = "auto",
    storage: str = "dense",
) -> Model:
    """Remove a share of a model's weights, once, at random, in place, before `model.learn`.

    Actor, critic and feature extractors have a sparsity each, which their layers share out. Target
    networks get the masks of what they follow. Optimizers stay valid: parameters are the same
    objects, whatever their storage, and the moments of pruned weights stay exactly zero.
    `model.save` and the algorithm's own `load` keep the masks; the loaded model goes on learning
    with them.

    Args:
        model: SAC, TD3, DDPG, PPO, A2C or DQN, or sb3-contrib's TQC, CrossQ, QR-DQN, TRPO,
            RecurrentPPO, MaskablePPO or ARS, before it has learned anything.
        actor: share of the policy network's weights to remove, in [0, 1), 0.8 by default; 0 leaves
            it dense. For PPO and its like it is of `mlp_extractor.policy_net` and `action_net`; DQN
            and QR-DQN have none. Recurrent layers stay dense.
        critic: the same for the value network, all critics together, 0.8 by default. For PPO and
            its like it is of `mlp_extractor.value_net` and `value_net`, for DQN of `q_net`; ARS has
            none.
        features: the same for the feature extractors (the CNN of a `CnnPolicy`), all together.
        seed: decides which weights go; a whole number below 2**32.
        distribution: how a sparsity is spread over layers: `uniform`, `er` or `erk`.
        pattern: `element`, `grouped` or `bernoulli`; see `kanbatsu.torch.prune`.
        group_size: outputs per group, for `grouped`.
        include: globs of the only layers to prune, such as `critic.*`. Paths are the
            names in `model.policy` behind `actor.`, `critic.` or `features.`; an error lists them.
        exclude: globs of layers to leave dense, such as `actor.mu`.
        compute: how pruned layers multiply: `auto`, `masked` or `packed`; see
            `kanbatsu.torch.prune`.
        storage: what the parameters of pruned layers are: `dense`, or `kept`: only the values that
            they keep, so that moments, targets and saved models are as small; linear layers only,
            so with `features` it is refused where extractors have convolutions.

    Returns:
        The same model. With `verbose` of at least 1 it has printed what each layer keeps.

    Raises:
        ValueError: for another algorithm, a sparsity outside [0, 1) or for a part that the model
            does not have, a model that is pruned otherwise or has been trained, or whatever
            `kanbatsu.torch.prune` refuses. The model is then as it was.

    Example:
        >>> from stable_baselines3 import SAC
        >>> model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [16, 16]})
        >>> model = prune_policy(model, actor=0.5, critic=0.8)  # and then model.learn(10_000)
        >>> from kanbatsu.torch import count
        >>> count(model.actor).sparsity, count(model.critic_target).kept
        (0.5, 134)
    """
    networks = Networks.of(model)
    given = {"actor": actor, "critic": critic, "features": features}
    sparsities = {
        name: (DEFAULT if name in networks.parts else 0.0) if share is None else share
        for name, share in given.items()
    }
    wanted = {name: share for name, share in sparsities.items() if share and name in networks.parts}
    parts = nn.ModuleDict({name: networks.parts[name] for name in wanted})
    shares = {f"{name}.*": share for name, share in wanted.items()}
    if wanted and is_pruned_so(parts, shares, seed, Scope(include, exclude), storage=storage):
        warnings.warn(MESSAGE, stacklevel=2)
        return model
    _check(model, networks, sparsities)
    if not wanted:
        return model
    prune(
        parts,
        shares,
        seed=seed,
        distribution=distribution,
        pattern=pattern,
        group_size=group_size,
        include=include,
        exclude=exclude,
        compute=compute,
        storage=storage,
    )
    for online, target in networks.followers:
        has = masks(target)  # already, where targets share a feature extractor
        missing = {path: mask for path, mask in masks(online).items() if path not in has}
        if missing:
            apply_masks(target, missing, compute, storage)
    check_when_loading(model.policy)
    built_by: Any = PrunedPolicy(model.policy_class, tuple(masks(model.policy)), compute, storage)
    model.policy_class = built_by
    if model.verbose:
        print(count(model.policy))  # noqa: T201 (as Stable-Baselines3 does when it is verbose)
    return model


def _check(model: BaseAlgorithm, networks: Networks, sparsities: Mapping[str, float]) -> None:
    """Refuse what this file alone can know; the rest is for `kanbatsu.torch.prune`."""
    algorithm = type(model).__name__
    for name, share in sparsities.items():
        if share and name not in networks.parts:
            raise ValueError(
                f"this {algorithm} has no {name} to prune, only {' and '.join(networks.parts)}: "
                f"leave {name}={share} out"
            )
    if masks(model.policy):
        raise ValueError(
            f"this {algorithm} is already pruned; prune a fresh one (see kanbatsu.torch.count for "
            "what it keeps)"
        )
    if model._n_updates:
        raise ValueError(
            f"this {algorithm} has been trained ({model._n_updates} updates): prune it before "
            "learn, so that its optimizers hold no moments of pruned weights"
        )
