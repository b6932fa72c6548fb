"""All probes of one network on one batch, under the names that logs and reports use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float

from kanbatsu.probes.dormant import dormant_ratio
from kanbatsu.probes.norms import feature_norm, tree_norm
from kanbatsu.probes.rank import srank

DORMANT_THRESHOLDS = (0.1, 0.025)
"""Sokar et al. 2023 use 0.1 and 0.025."""


def network_health(
    weights: Any,
    gradients: Any,
    features: Float[Any, "batch width"],
    activations: Mapping[str, Float[Any, "batch _"]],
) -> dict[str, Float[Any, ""]]:
    """Measure one network.

    Args:
        weights: the network, or its parameters.
        gradients: of its loss on this batch, as its optimizer would receive them.
        features: its last features on the batch.
        activations: the outputs of its activation functions, by layer.

    Returns:
        `dormant_0.1`, `dormant_0.025` (in all, and `dormant_0.1/<layer>` for each), `srank`,
        `gradient_norm`, `weight_norm` and `feature_norm`.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.eye(3)
        >>> health = network_health({"w": x}, {"w": 2.0 * x}, x, {"hidden": x})
        >>> float(health["srank"]), float(health["dormant_0.1"])
        (3.0, 0.0)
    """
    return health_of(features, activations, tree_norm(gradients), tree_norm(weights))


def health_of(
    features: Float[Any, "batch width"],
    activations: Mapping[str, Float[Any, "batch _"]],
    gradient_norm: Float[Any, ""],
    weight_norm: Float[Any, ""],
) -> dict[str, Float[Any, ""]]:
    """Measure one network whose norms are known; arrays are JAX's or numpy's.

    Args:
        features: as in `network_health`.
        activations: likewise.
        gradient_norm: length of the gradient.
        weight_norm: length of all trainable numbers together.

    Returns:
        What `network_health` returns.
    """
    health = {
        "srank": srank(features).astype("float32"),
        "gradient_norm": gradient_norm,
        "weight_norm": weight_norm,
        "feature_norm": feature_norm(features),
    }
    for tau in DORMANT_THRESHOLDS:
        for layer, ratio in dormant_ratio(activations, tau).items():
            health[f"dormant_{tau}" + (f"/{layer}" if layer else "")] = ratio
    return health
