"""All probes of one network on one batch, under the names that logs and reports use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from kanbatsu.probes.dormant import dormant_ratio
from kanbatsu.probes.norms import feature_norm, tree_norm
from kanbatsu.probes.rank import srank

DORMANT_THRESHOLDS = (0.1, 0.025)
"""Sokar et al. 2023 use 0.1 and 0.025."""


def network_health(
    weights: Any,
    gradients: Any,
    features: Float[Array, "batch width"],
    activations: Mapping[str, Float[Array, "batch _"]],
) -> dict[str, Float[Array, ""]]:
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
        >>> x = jnp.eye(3)
        >>> health = network_health({"w": x}, {"w": 2.0 * x}, x, {"hidden": x})
        >>> float(health["srank"]), float(health["dormant_0.1"])
        (3.0, 0.0)
    """
    health = {
        "srank": srank(features).astype(jnp.float32),
        "gradient_norm": tree_norm(gradients),
        "weight_norm": tree_norm(weights),
        "feature_norm": feature_norm(features),
    }
    for tau in DORMANT_THRESHOLDS:
        for layer, ratio in dormant_ratio(activations, tau).items():
            health[f"dormant_{tau}" + (f"/{layer}" if layer else "")] = ratio
    return health
