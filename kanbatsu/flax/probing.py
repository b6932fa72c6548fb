"""Probes for any Flax model, linen or nnx: its activations are found, nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen, nnx
from jaxtyping import Array, Float

from kanbatsu.flax.pruning import opened
from kanbatsu.probes import jaxpr


def probe(
    model: linen.Module | nnx.Module,
    *inputs: Any,
    gradients: Any = None,
    activations: Sequence[str] = (),
    **options: Any,
) -> dict[str, Float[Array, ""]]:
    """Measure a Flax model on one batch.

    What an activation is, and what it is called, stands in `kanbatsu.probes.jaxpr`, whose `record`
    also returns the activations themselves.

    Args:
        model: a linen module or an nnx model.
        *inputs: what it is called with. For a linen module what its `init` returned comes first.
        gradients: of the parameters, as their optimizer would receive them.
        activations: names of further activation functions, compiled by `jax.jit`.
        **options: for the call: `rngs`, `method`, `train=False`.

    Returns:
        `dormant_0.1`, `dormant_0.025` (in all, and `dormant_0.1/<layer>` for each), `srank`,
        `weight_norm`, `feature_norm`, and `gradient_norm` if there are gradients.

    Raises:
        ValueError: if there is no activation, a layer hides in `nn.vmap` or `nn.scan` (probe one
            member of an ensemble), or the first axis counts no samples.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = linen.Sequential([linen.Dense(8), linen.relu, linen.Dense(1)])
        >>> variables = module.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> sorted(probe(module, variables, jnp.ones((16, 3))))[-4:]
        ['dormant_0.1/layers_0', 'feature_norm', 'srank', 'weight_norm']
        >>> hidden, out = (nnx.Linear(*s, rngs=nnx.Rngs(0)) for s in ((3, 8), (8, 1)))
        >>> sorted(probe(nnx.Sequential(hidden, nnx.relu, out), jnp.ones((16, 3))))[-4:]
        ['dormant_0.1/layers/0', 'feature_norm', 'srank', 'weight_norm']
    """
    if isinstance(model, nnx.Module):
        graph, *states = nnx.split(model, nnx.Param, ...)
        params, rest = states

        def call(params: Any, *inputs: Any) -> Any:
            mine = jax.tree.map(lambda leaf: leaf, rest)  # a copy, which it may change
            return nnx.merge(graph, params, mine)(*inputs, **options)

        return jaxpr.probe(call, params, *inputs, gradients=gradients, activations=activations)
    variables, *others = inputs
    of_model, variables = opened(model, variables)

    def apply(params: Any, *inputs: Any) -> Any:
        return of_model({**variables, "params": params}, *inputs, **options)

    return jaxpr.probe(
        apply, variables["params"], *others, gradients=gradients, activations=activations
    )
