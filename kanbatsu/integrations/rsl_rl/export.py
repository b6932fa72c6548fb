"""Exports the actor of an rsl_rl runner to files that run without PyTorch."""

from __future__ import annotations

import os
from typing import Any, Unpack

import numpy as np
from torch import Tensor, nn

from kanbatsu.deploy.contract import Contract, Moments
from kanbatsu.deploy.task import entries
from kanbatsu.deploy.write import Bound
from kanbatsu.integrations.actors import Actor, Options, leaves_of
from kanbatsu.torch.kernels import CannotExport, first_outputs

MEANS = {"GaussianDistribution": 1, "HeteroscedasticGaussianDistribution": 2}
"""Distributions whose mean is the first of so many parts of what the network gives."""


def export_policy(
    runner: Any,
    out_dir: str | os.PathLike[str],
    *,
    low: Bound = -np.inf,
    high: Bound = np.inf,
    **options: Unpack[Options],
) -> None:
    """Write what `runner.get_inference_policy()` computes, for `kanbatsu.deploy.load`.

    Of pruned layers, the kept weights are written and no others. The normaliser of observations
    is frozen and written along. Where the actor sees several groups of observations, the policy
    takes them laid end to end, or as a dictionary.

    Args:
        runner: `rsl_rl.runners.OnPolicyRunner` or `DistillationRunner`, of which the student is
            written.
        out_dir: folder of its own, which gets `policy.json`, `policy.safetensors` and
            `contract.json`.
        low: lowest value of each entry of an action, `[action_dim]` or one for all. rsl_rl's
            actions have no bounds: name those that your environment clips to.
        high: highest value likewise.
        **options: `contract`, `key`, `tolerance`, `onnx` and `c`, as in
            `kanbatsu.torch.deploy.export_policy`.

    Raises:
        ValueError: for another object, or a recurrent model, convolutions, or a distribution that
            is not Gaussian; nothing is written then.
        ParityError: if the policy differs from the model by more than the tolerance.

    Example:
        >>> export_policy(runner, "policy", low=-1.0, high=1.0, c=True)  # doctest: +SKIP
    """
    algorithm: Any = getattr(runner, "alg", None)
    if not hasattr(algorithm, "get_policy"):
        raise ValueError(
            f"this {type(runner).__name__} is no runner of rsl_rl 4 or later. A module alone goes "
            "to kanbatsu.torch.deploy.export_policy"
        )
    model: Any = algorithm.get_policy()
    distribution = getattr(model, "distribution", None)
    kind = None if distribution is None else type(distribution).__name__
    if getattr(model, "is_recurrent", False):
        raise CannotExport(f"its {type(model).__name__} is recurrent, and a policy holds no state")
    if hasattr(model, "cnns") or not hasattr(model, "mlp"):
        raise CannotExport(f"its {type(model).__name__} is no MLPModel")
    if kind is not None and kind not in MEANS:
        raise CannotExport(f"its actions are the means of a {kind}, and of a Gaussian they can be")
    layers = [layer for layer in leaves_of(model.mlp) if not isinstance(layer, nn.Unflatten)]
    last = layers[-1]
    if kind is not None and isinstance(last, nn.Linear):
        layers[-1] = first_outputs(last, last.out_features // MEANS[kind])
    given = runner.env.get_observations()
    sizes = {group: int(given[group].shape[-1]) for group in model.obs_groups}

    def act(obs: Tensor) -> Any:
        parts = obs.split(list(sizes.values()), dim=-1)
        observations = given[:1].expand(len(obs)).clone()
        for group, part in zip(sizes, parts, strict=True):
            observations[group] = part
        return model(observations)

    several = len(sizes) > 1
    known = Contract(
        observation_names=tuple(entries(sizes.items())) if several else None,
        observation_parts=tuple(sizes) if several else None,
        observation_lengths=tuple(sizes.values()) if several else None,
    )
    Actor(
        nn.Sequential(model.obs_normalizer, *layers),
        "clip",
        act,
        "runner.get_inference_policy",
        low,
        high,
        known=known,
        moments=_moments(model.obs_normalizer),
    ).write(out_dir, **options)


def _moments(normaliser: Any) -> Moments | None:
    """What a normaliser has seen; None of one that has seen too little, or is none."""
    count = getattr(normaliser, "count", None)
    if count is None or count < 2:
        return None
    mean, sd = (x.double().cpu().numpy().ravel() for x in (normaliser.mean, normaliser.std))
    return Moments("normaliser", float(count), mean, sd)
