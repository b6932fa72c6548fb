"""Exports the policy of a tianshou algorithm to files that run without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from kanbatsu.deploy.write import Bound
from kanbatsu.integrations.actors import Actor, Options, leaves_of, sizes_of_choices
from kanbatsu.torch.deploy import Actions
from kanbatsu.torch.evaluating import evaluating
from kanbatsu.torch.kernels import CannotExport

SCORED = ("DiscreteQLearningPolicy", "DiscreteActorPolicy")
"""Policies that take the option with the largest score."""
CONTINUOUS = ("SACPolicy", "ProbabilisticActorPolicy", "ContinuousDeterministicPolicy")
"""Policies whose actions are numbers."""


def export_policy(
    algorithm: Any, out_dir: str | os.PathLike[str], **options: Unpack[Options]
) -> None:
    """Write how a tianshou algorithm acts in evaluation, deterministically, with its action mapped.

    That is `policy.map_action` of the mode of its distribution, and no exploration noise. Of pruned
    layers, the kept weights are written and no others.

    Args:
        algorithm: of tianshou 2, or its policy: of SAC, DDPG, TD3, PPO, A2C, DQN and those made
            like them, with `Net` and tianshou's actors, or sequences of layers, in it.
        out_dir: folder of its own, which gets `policy.json`, `policy.safetensors` and
            `contract.json`.
        **options: `contract`, `key`, `tolerance`, `onnx` and `c`, as in
            `kanbatsu.torch.deploy.export_policy`.

    Raises:
        ValueError: for another object, another kind of policy, or layers that a policy of the small
            runtime cannot have; nothing is written then.
        ParityError: if what is written differs from the policy by more than the tolerance.

    Example:
        >>> export_policy(algorithm, "policy", c=True)  # doctest: +SKIP
    """
    policy: Any = getattr(algorithm, "policy", algorithm)
    kind = type(policy).__name__
    if not hasattr(policy, "map_action"):
        raise ValueError(
            f"this {type(algorithm).__name__} is no algorithm of tianshou 2. A module alone goes "
            "to kanbatsu.torch.deploy.export_policy"
        )
    low: Bound = -np.inf
    high: Bound = np.inf
    actions: Actions = "argmax"
    if kind in SCORED:
        sizes = sizes_of_choices(policy.action_space)
        if sizes is None or len(sizes) > 1:
            raise CannotExport(f"its actions are {policy.action_space}, and not one choice")
        layers = list(_layers(policy.model if hasattr(policy, "model") else policy.actor))
    elif kind in CONTINUOUS and isinstance(policy.action_space, Box):
        layers = list(_layers(policy.actor))
        is_squashed = kind == "SACPolicy" or policy.action_bound_method == "tanh"
        actions = "squash" if is_squashed else "clip"
        if policy.action_scaling:
            low, high = policy.action_space.low, policy.action_space.high
        elif is_squashed or policy.action_bound_method == "clip":
            low, high = -1.0, 1.0
        if policy.action_scaling and not is_squashed:
            half = (np.asarray(high, np.float64) - low) / 2
            layers.append(_scaled(half, low + half))
    else:
        raise CannotExport(f"it is a {kind} on {policy.action_space}")
    Actor(
        nn.Sequential(*layers),
        actions,
        lambda obs: _act(policy, obs),
        f"map_action of the {kind}",
        low,
        high,
    ).write(out_dir, **options)


def _layers(module: Any) -> Iterator[nn.Module]:
    """The layers of an actor, of a network of action values, or of what one of them holds."""
    kind = type(module).__name__
    if isinstance(module, nn.Sequential):
        yield from leaves_of(module)
    elif kind == "Net":
        if module.use_dueling or module.num_atoms > 1:
            raise CannotExport("its Net has dueling heads or several atoms")
        yield from _layers(module.model)
    elif kind in ("MLP", "ModuleWithVectorOutputAdapter"):
        yield from _layers(getattr(module, "model", None) or module.module)
    elif kind == "DiscreteActor":
        yield from (*_layers(module.preprocess), *_layers(module.last))
    elif kind == "ContinuousActorDeterministic":
        yield from (*_layers(module.preprocess), *_layers(module.last), nn.Tanh())
        yield _scaled(np.full(module.output_dim, module.max_action), np.zeros(module.output_dim))
    elif kind == "ContinuousActorProbabilistic":
        yield from (*_layers(module.preprocess), *_layers(module.mu))
        if not module._unbounded:
            yield nn.Tanh()
            sizes = np.full(module.output_dim, module.max_action)
            yield _scaled(sizes, np.zeros(module.output_dim))
    elif type(module).__module__.startswith("torch.nn") or isinstance(module, nn.Linear):
        yield module
    else:
        raise CannotExport(f"it holds {kind}, and of tianshou's own Net and its actors are known")


def _scaled(scale: np.ndarray, shift: np.ndarray) -> nn.Linear:
    """A layer that scales each number, and moves it."""
    layer = nn.Linear(len(scale), len(scale))
    layer.weight = nn.Parameter(torch.as_tensor(np.diag(scale), dtype=torch.float32))
    layer.bias = nn.Parameter(torch.as_tensor(shift, dtype=torch.float32))
    return layer


def _act(policy: Any, obs: Tensor) -> Any:
    """What a policy does with observations, without drawing anything."""
    from tianshou.data import Batch  # type: ignore[import-not-found]

    missing = object()
    was = {
        name: vars(policy).get(name, missing)
        for name in ("deterministic_eval", "is_within_training_step")
    }
    policy.deterministic_eval, policy.is_within_training_step = True, False
    try:
        with evaluating(policy):
            taken = policy(Batch(obs=obs.cpu().numpy(), info={})).act
        return policy.map_action(taken)
    finally:
        for name, value in was.items():
            if value is missing:
                delattr(policy, name)
            else:
                setattr(policy, name, value)
