"""Exports the policy of a skrl agent to files that run without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from kanbatsu.deploy.contract import Moments
from kanbatsu.deploy.task import of_spaces
from kanbatsu.integrations.actors import (
    Actor,
    Options,
    as_it_was,
    largest_of_each,
    sizes_of_choices,
)
from kanbatsu.torch.kernels import CannotExport

ROLES = ("policy", "q_network")
"""Models that act, the first that there is."""


class _Acting(nn.Module):
    """What a model computes of observations: its mean, its action, or its scores."""

    def __init__(self, model: Any, preprocess: Any, role: str) -> None:
        super().__init__()
        self.model, self.preprocess, self._role = model, preprocess, role

    def forward(self, x: Any) -> Any:
        inputs = {"observations": self.preprocess(x), "states": None}
        computed = self.model.compute(inputs, self._role)[0]
        return computed


def export_policy(agent: Any, out_dir: str | os.PathLike[str], **options: Unpack[Options]) -> None:
    """Write how a skrl agent acts in evaluation, for `kanbatsu.deploy.load`.

    That is `mean_actions` of Gaussian models, brought between the bounds of the action space, the
    action of deterministic ones, and the option with the largest score where actions are choices.
    Of pruned layers, the kept weights are written and no others. A `RunningStandardScaler` of the
    observations is frozen and written along.

    Args:
        agent: of `skrl.agents.torch`, with a model called policy or q_network.
        out_dir: folder of its own, which gets `policy.json`, `policy.safetensors` and
            `contract.json`.
        **options: `contract`, `key`, `tolerance`, `onnx` and `c`, as in
            `kanbatsu.torch.deploy.export_policy`.

    Raises:
        ValueError: for another object, a recurrent model, other observations than a vector of
            numbers, or layers that a policy cannot have; nothing is written then.
        ParityError: if the policy differs from the model by more than the tolerance.

    Example:
        >>> export_policy(agent, "policy", c=True)  # doctest: +SKIP
    """
    models = getattr(agent, "models", None)
    roles = [r for r in ROLES if isinstance(models, Mapping) and models.get(r) is not None]
    if not roles:
        raise ValueError(
            f"this {type(agent).__name__} is no agent of skrl with a model called "
            f"{' or '.join(ROLES)}. A module alone goes to kanbatsu.torch.deploy.export_policy"
        )
    role: str = roles[0]
    model: Any = agent.models[role]
    space, actions = model.observation_space, model.action_space
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise CannotExport(f"its observations are {space}, and no vector of numbers")
    if model.get_specification().get("rnn"):
        raise CannotExport(f"its {role} is recurrent, and a policy holds no state")
    sizes = sizes_of_choices(actions)
    if sizes is None and not (isinstance(actions, Box) and len(actions.shape) == 1):
        raise CannotExport(f"its actions are {actions}: neither a vector of numbers nor choices")
    preprocess = getattr(agent, "_observation_preprocessor", None) or nn.Identity()
    module = _Acting(model, preprocess, role)

    def act(obs: Tensor) -> Tensor:
        computed: Tensor = module(obs)
        return computed if sizes is None else largest_of_each(computed, sizes)

    with as_it_was(model):
        Actor(
            module,
            "clip" if sizes is None else "argmax",
            act,
            f"the {role}'s compute",
            -np.inf if sizes is not None else actions.low,
            np.inf if sizes is not None else actions.high,
            choices=None if sizes is None or len(sizes) == 1 else sizes,
            known=of_spaces(space, None),
            moments=_moments(preprocess),
        ).write(out_dir, **options)


def _moments(scaler: Any) -> Moments | None:
    """What a `RunningStandardScaler` has seen; None of something else, or of too little."""
    count = getattr(scaler, "current_count", None)
    if count is None or count < 3:  # it begins with 1
        return None
    mean, variance = scaler.running_mean, scaler.running_variance
    sd = torch.sqrt(variance)
    return Moments("normaliser", float(count) - 1, *(x.double().cpu().numpy() for x in (mean, sd)))
