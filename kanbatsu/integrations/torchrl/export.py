"""Exports an actor of TorchRL to files that run without PyTorch."""

from __future__ import annotations

import os
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from kanbatsu.deploy.write import Bound
from kanbatsu.integrations.actors import Actor, Options, leaves_of
from kanbatsu.torch.deploy import Actions
from kanbatsu.torch.kernels import CannotExport, first_outputs

ENDS: dict[str, Actions] = {
    "TanhNormal": "squash",
    "TanhDelta": "squash",
    "Normal": "clip",
    "IndependentNormal": "clip",
    "Delta": "clip",
    "Categorical": "argmax",
    "OneHotCategorical": "argmax",
}
"""Distributions whose likeliest or middle action a policy can compute."""


def export_policy(
    actor: Any,
    out_dir: str | os.PathLike[str],
    *,
    low: Bound | None = None,
    high: Bound | None = None,
    **options: Unpack[Options],
) -> None:
    """Write how an actor of TorchRL acts deterministically, for `kanbatsu.deploy.load`.

    That is its action under `ExplorationType.DETERMINISTIC`. Of pruned layers, the kept weights
    are written and no others. Transforms of the environment, such as `ObservationNorm`, are not
    the actor's: the policy takes what they give.

    Args:
        actor: `ProbabilisticActor` (`TanhNormal`, `TanhDelta`, `Normal`, `IndependentNormal`,
            `Delta`, `Categorical`, `OneHotCategorical`), `QValueActor`, or a `TensorDictModule`
            that gives the action, each of one observation. What a loss trains are the parameters
            of the networks that it was given, so give the actor itself.
        out_dir: folder of its own, which gets `policy.json`, `policy.safetensors` and
            `contract.json`.
        low: lowest value of each entry of an action; by default that of its distribution, or of
            its spec.
        high: highest value likewise.
        **options: `contract`, `key`, `tolerance`, `onnx` and `c`, as in
            `kanbatsu.torch.deploy.export_policy`.

    Raises:
        ValueError: for another object, or layers or a distribution that a policy cannot have;
            nothing is written then.
        ParityError: if the policy differs from the actor by more than the tolerance.

    Example:
        >>> export_policy(actor, "policy", c=True)  # doctest: +SKIP
    """
    parts = list(getattr(actor, "module", None) or []) if _is_sequence(actor) else [actor]
    networks = [part for part in parts if isinstance(getattr(part, "module", None), nn.Module)]
    if len(networks) != 1 or len(networks[0].in_keys) != 1:
        raise ValueError(
            f"this {type(actor).__name__} is no actor of TorchRL with one network of one "
            "observation. A module alone goes to kanbatsu.torch.deploy.export_policy"
        )
    network = networks[0]
    layers = list(leaves_of(network.module))
    last = next((layer for layer in reversed(layers) if isinstance(layer, nn.Linear)), None)
    actions = _end_of(parts[-1])
    if type(layers[-1]).__name__ == "NormalParamExtractor" and last is layers[-2]:
        assert last is not None
        layers[-2:] = [first_outputs(last, last.out_features // 2)]
    (key,) = network.in_keys

    def act(obs: Tensor) -> Tensor:
        from tensordict import TensorDict  # type: ignore[import-not-found]
        from torchrl.envs.utils import (  # type: ignore[import-not-found]
            ExplorationType,
            set_exploration_type,
        )

        with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
            data = actor(TensorDict({key: obs}, batch_size=[len(obs)], device=obs.device))
        taken: Tensor = data["action"]
        is_one_hot = actions == "argmax" and taken.ndim == 2 and taken.shape[-1] > 1
        return taken.long().argmax(dim=-1) if is_one_hot else taken

    ends = _bounds(actor, parts[-1])
    Actor(
        nn.Sequential(*layers),
        actions,
        act,
        f"the {type(actor).__name__}",
        ends[0] if low is None else low,
        ends[1] if high is None else high,
    ).write(out_dir, **options)


def _is_sequence(actor: Any) -> bool:
    return isinstance(getattr(actor, "module", None), nn.ModuleList)


def _end_of(part: Any) -> Actions:
    """The kind of the actions, by the distribution or the module that ends an actor."""
    kind = getattr(part, "distribution_class", None)
    if kind is None:
        name = type(part).__name__
        if name == "QValueModule":
            return "argmax"
        if not isinstance(getattr(part, "module", None), nn.Module):
            raise CannotExport(f"its actions are made by a {name}")
        return "clip"
    name = getattr(kind, "__name__", str(kind))
    if name not in ENDS:
        raise CannotExport(f"its actions are drawn from a {name}, and known are {', '.join(ENDS)}")
    return ENDS[name]


def _bounds(actor: Any, part: Any) -> tuple[Bound, Bound]:
    """The bounds of the actions, of their distribution or of their spec."""
    settings = getattr(part, "distribution_kwargs", None) or {}
    squashed = getattr(getattr(part, "distribution_class", None), "__name__", "")[:4] == "Tanh"
    space = getattr((getattr(actor, "spec", None) or {}).get("action", None), "space", None)
    ends: list[Bound] = []
    for name, other in (("low", -1.0), ("high", 1.0)):
        known = getattr(space, name, None)
        end = settings.get(name, other if squashed else known)
        if isinstance(end, Tensor):
            end = end.detach().cpu().numpy()
        free = -np.inf if name == "low" else np.inf
        ends.append(free if end is None else end)
    return ends[0], ends[1]
