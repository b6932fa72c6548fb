"""Probes for any Flax model, linen or nnx: what enters its layers is recorded, nothing is changed.

The activations of a network are what enters its linear and convolution layers, except what enters
the first one called, and what comes straight out of another such layer or of a normalisation.
These are the outputs of the activation functions, whatever they are and wherever they are called;
where a layer takes in the sum of a residual connection, it is that sum. What enters the last layer
called are the features.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flax import linen, nnx
from jaxtyping import Array, Float

from kanbatsu.probes.health import network_health
from kanbatsu.sparsity.kernel import Paths
from kanbatsu.sparsity.kernel import globs as patterns

Scalars = dict[str, Float[Array, ""]]
Recorded = tuple[Float[Array, "batch width"], dict[str, Float[Array, "batch _"]]]
COLLECTION = "kanbatsu_probe"
KINDS = ("LayerNorm", "RMSNorm", "BatchNorm", "GroupNorm", "InstanceNorm")
NORMS = tuple(getattr(library, kind) for library in (linen, nnx) for kind in KINDS)


def probe(
    module: linen.Module,
    variables: Any,
    *inputs: Any,
    gradients: Any = None,
    exclude: Paths = (),
    **options: Any,
) -> Scalars:
    """Measure a linen module on one batch.

    Args:
        module: the module itself, not compiled; the function may be compiled around it.
        variables: what its `init` returned.
        *inputs: what it is called with.
        gradients: of the parameters, as their optimizer would receive them.
        exclude: path patterns of layers what enters which is no activation, such as the output
            projection of an attention.
        **options: for `module.apply`: `rngs`, `method`, `train=False`.

    Returns:
        `dormant_0.1`, `dormant_0.025` (in all, and `dormant_0.1/<layer>/input` for what enters each
        layer), `srank`, `weight_norm`, `feature_norm`, and `gradient_norm` if there are gradients.

    Raises:
        ValueError: if nothing that enters a layer is an activation, a layer hides in `nn.vmap` or
            `nn.scan` (probe one member of an ensemble), or an `exclude` pattern matches nothing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = linen.Sequential([linen.Dense(8), linen.relu, linen.Dense(1)])
        >>> variables = module.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> sorted(probe(module, variables, jnp.ones((16, 3))))[-4:]
        ['dormant_0.1/layers_2/input', 'feature_norm', 'srank', 'weight_norm']
    """
    recorded = record(module, variables, *inputs, exclude=exclude, **options)
    return _measure(variables.get("params", variables), gradients, recorded)


def probe_nnx(
    model: nnx.Module, *inputs: Any, gradients: Any = None, exclude: Paths = (), **options: Any
) -> Scalars:
    """Measure an nnx module on one batch; as `probe`, but the module holds its parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden, out = (nnx.Linear(*s, rngs=nnx.Rngs(0)) for s in ((3, 8), (8, 1)))
        >>> model = nnx.Sequential(hidden, nnx.relu, out)
        >>> sorted(probe_nnx(model, jnp.ones((16, 3))))[-4:]
        ['dormant_0.1/layers/2/input', 'feature_norm', 'srank', 'weight_norm']
    """
    recorded = record_nnx(model, *inputs, exclude=exclude, **options)
    return _measure(nnx.state(model, nnx.Param), gradients, recorded)


def record(
    module: linen.Module, variables: Any, *inputs: Any, exclude: Paths = (), **options: Any
) -> Recorded:
    """Return a linen module's features and activations on one batch; arguments as for `probe`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = linen.Sequential([linen.Dense(8), linen.relu, linen.Dense(1)])
        >>> variables = module.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> features, activations = record(module, variables, jnp.ones((16, 3)))
        >>> features.shape, list(activations)
        ((16, 8), ['layers_2/input'])
    """
    tape = _Tape(inputs)

    def listen(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        is_kernel = layer.has_variable("params", "kernel")
        if is_kernel:
            x = args[0] if args else next(iter(kwargs.values()))
            path = "/".join(layer.path)
            # Sown, so that Flax carries it out of whatever the layer is compiled into.
            if not layer.sow(COLLECTION, "input", x):
                raise ValueError(
                    f"{path} lies in nn.vmap or nn.scan, which hides what it computes. Of an "
                    "ensemble, probe one member: its own module, with its share of the parameters"
                )
            tape.enter(path, x)
        y = call(*args, **kwargs)
        if is_kernel or isinstance(layer, NORMS):
            tape.leave(y)
        return y

    with linen.intercept_methods(listen):
        _, sown = module.apply(variables, *inputs, mutable=[COLLECTION], **options)

    def value(path: str, call: int) -> Any:
        node = sown[COLLECTION]
        for name in path.split("/") if path else ():
            node = node[name]
        return node["input"][call]

    return tape.read(value, exclude)


def record_nnx(model: nnx.Module, *inputs: Any, exclude: Paths = (), **options: Any) -> Recorded:
    """Return an nnx module's features and activations on one batch; arguments as for `probe_nnx`.

    Example:
        >>> import jax.numpy as jnp
        >>> hidden, out = (nnx.Linear(*s, rngs=nnx.Rngs(0)) for s in ((3, 8), (8, 1)))
        >>> model = nnx.Sequential(hidden, nnx.relu, out)
        >>> features, activations = record_nnx(model, jnp.ones((16, 3)))
        >>> features.shape, list(activations)
        ((16, 8), ['layers/2/input'])
    """
    tape = _Tape(inputs)
    values: dict[str, list[Any]] = {}
    layers = {
        id(m): "/".join(map(str, path)) for path, m in nnx.iter_modules(model) if _is_layer(m)
    }

    def listen(layer: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if id(layer) in layers and not isinstance(layer, NORMS):
            path = layers[id(layer)]
            x = args[0] if args else next(iter(kwargs.values()))
            values.setdefault(path, []).append(x)
            tape.enter(path, x)
        y = call(layer, *args, **kwargs)
        if id(layer) in layers:
            tape.leave(y)
        return y

    with _listening({type(m) for _, m in nnx.iter_modules(model) if _is_layer(m)}, listen):
        model(*inputs, **options)
    return tape.read(lambda path, call: values[path][call], exclude)


class _Tape:
    """What entered which layer, in order, and whether it was an activation.

    Arrays are told apart by identity: an activation function returns another array than the layer
    or the normalisation that it was given.
    """

    def __init__(self, inputs: Any):
        self.known = list(inputs)
        self.entered: list[tuple[str, bool]] = []

    def enter(self, path: str, x: Any) -> None:
        fresh = not any(x is known for known in self.known)
        self.entered.append((path, fresh and bool(self.entered)))
        self.known.append(x)  # what enters two layers (mean and deviation, say) counts once

    def leave(self, y: Any) -> None:
        self.known.append(y)

    def read(self, value: Callable[[str, int], Any], exclude: Paths) -> Recorded:
        """Return features `[batch, width]` and activations `[batch, units]` by layer."""
        paths = [path for path, _ in self.entered]
        for pattern in patterns(exclude):
            if not fnmatch.filter(paths, pattern):
                raise ValueError(
                    f"the pattern {pattern!r} matches no layer; they are: {', '.join(paths)}"
                )
        excluded = {path for p in patterns(exclude) for path in fnmatch.filter(paths, p)}
        activations = {}
        for position, (path, is_activation) in enumerate(self.entered):
            call = paths[:position].count(path)
            x = value(path, call)
            features = x.reshape(-1, x.shape[-1])
            if is_activation and path not in excluded:
                again = f"/{call}" if call else ""
                activations[f"{path}/input{again}".removeprefix("/")] = features
        if not activations:
            raise ValueError(
                "nothing that enters a layer of this network is an activation. Give activations "
                "and features to kanbatsu.probes.health.network_health yourself"
            )
        return features, activations


def _measure(weights: Any, gradients: Any, recorded: Recorded) -> Scalars:
    health = network_health(weights, gradients, *recorded)
    if gradients is None:
        del health["gradient_norm"]
    return health


def _is_layer(module: Any) -> bool:
    """Whether an nnx module is a linear or convolution layer, or a normalisation."""
    return isinstance(getattr(module, "kernel", None), nnx.Param) or isinstance(module, NORMS)


@contextmanager
def _listening(types: set[type], listen: Callable[..., Any]) -> Iterator[None]:
    """Let calls of nnx modules of some types pass by a listener; nnx has no hook for inputs."""
    originals = {kind: kind.__call__ for kind in types}
    inherited = {kind for kind in types if "__call__" not in vars(kind)}

    def hooked(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda layer, *args, **kwargs: listen(layer, call, args, kwargs)

    try:
        for kind, call in originals.items():
            kind.__call__ = hooked(call)  # type: ignore[method-assign]
        yield
    finally:
        for kind, call in originals.items():
            if kind in inherited:
                del kind.__call__
            else:
                kind.__call__ = call  # type: ignore[method-assign]
