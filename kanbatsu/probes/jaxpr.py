"""Probes of any JAX function of parameters and inputs: its layers and activations are found.

A layer is a matrix product or a convolution of something that depends on the inputs with a
parameter of at least two axes. An activation is what an activation function returns, if a layer
is called before it and another one after it; it bears the name of the last one before it. The
features are what the last layer reads. `kanbatsu.torch.probe` goes by the same definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, jaxpr_as_fun, jaxprs_in_params
from jaxtyping import Array, Float

from kanbatsu.probes.health import network_health
from kanbatsu.tree import leaves_by_path

Recorded = tuple[Float[Array, "batch width"], dict[str, Float[Array, "batch _"]]]
ACTIVATION_FUNCTIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "swish", "mish"),
    *("softplus", "squareplus", "soft_sign", "hard_tanh", "hard_sigmoid", "hard_silu"),
)
"""What `jax.nn` compiles under a name of its own."""
SQUASHING = ("tanh", "logistic", "erf", "erfc")
LAYERS = ("dot_general", "conv_general_dilated")
CALLS = ("jit", "pjit", "closed_call", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call")
"""Primitives that compute just what the program inside them computes."""
ELEMENTWISE = (
    *("add", "sub", "mul", "div", "neg", "max", "min", "exp", "expm1", "log1p", "integer_pow"),
    *("square", "pow", "abs", "sign", "gt", "ge", "lt", "le", "convert_element_type", "copy"),
    *(*SQUASHING, "select_n"),
)


def probe(
    function: Callable[..., Any],
    params: Any,
    *inputs: Any,
    gradients: Any = None,
    activations: Sequence[str] = (),
) -> dict[str, Float[Array, ""]]:
    """Measure any network on one batch.

    Args:
        function: of parameters and inputs, such as the `apply` of a Haiku transform; may itself
            be compiled, and so may the function around the probe.
        params: any tree of arrays.
        *inputs: what else the function is called with; the first axis of arrays counts samples.
        gradients: of the parameters, as their optimizer would receive them.
        activations: names of further activation functions. They must be compiled by `jax.jit`,
            or have a derivative of their own, to be seen.

    Returns:
        `dormant_0.1`, `dormant_0.025` (in all, and `dormant_0.1/<layer>` for each), `srank`,
        `weight_norm`, `feature_norm`, and `gradient_norm` if there are gradients.

    Raises:
        ValueError: if there is no activation, a layer lies in `vmap` over parameters or in a loop
            (probe one member of an ensemble), or the first axis counts no samples.

    Example:
        >>> params = {"hidden": {"w": jnp.ones((3, 8))}, "out": {"w": jnp.ones((8, 1))}}
        >>> def network(params, x):
        ...     return jax.nn.relu(x @ params["hidden"]["w"]) @ params["out"]["w"]
        >>> health = probe(network, params, jnp.ones((16, 3)))
        >>> sorted(health)[-4:]
        ['dormant_0.1/hidden', 'feature_norm', 'srank', 'weight_norm']
    """
    recorded = record(function, params, *inputs, activations=activations)
    health = network_health(params, gradients, *recorded)
    return {
        name: x for name, x in health.items() if gradients is not None or name != "gradient_norm"
    }


def record(
    function: Callable[..., Any], params: Any, *inputs: Any, activations: Sequence[str] = ()
) -> Recorded:
    """Return features `[batch, width]` and activations `[batch, units]` by layer.

    A layer is called as the branch of the tree that holds its kernel (or as the kernel, where
    the branch has several), with `#2` where it fires for the second time. After a convolution a
    unit is a channel, and its value the mean magnitude over all places.

    Args: as for `probe`.

    Example:
        >>> layers = [{"w": jnp.ones((3, 8))}, {"w": jnp.ones((8, 1))}]
        >>> def network(params, x):
        ...     return jnp.tanh(x @ params[0]["w"]) @ params[1]["w"]
        >>> features, found = record(network, layers, jnp.ones((16, 3)))
        >>> features.shape, list(found)
        ((16, 8), ['0'])
    """
    arrays, rest = eqx.partition((params, inputs), lambda leaf: hasattr(leaf, "shape"))

    def traced(arrays: Any) -> list[Any]:
        params, inputs = eqx.combine(arrays, rest)
        output = function(params, *inputs)
        return [leaf for leaf in jax.tree.leaves(output) if hasattr(leaf, "dtype")]

    program = jax.make_jaxpr(traced)(arrays)
    leaves = leaves_by_path(arrays[0])
    axes = {path: leaf.ndim for path, leaf in leaves.items() if leaf.ndim >= 2}
    values = [_Value(leaf, kernel=path if path in axes else "") for path, leaf in leaves.items()]
    values += [_Value(leaf, root=object()) for leaf in jax.tree.leaves(arrays[1])]
    forward = _Pass((*ACTIVATION_FUNCTIONS, *activations), axes)
    forward.run(program, values)
    return forward.recorded()


@dataclass(frozen=True)
class _Value:
    """An array of the program, and where it comes from."""

    array: Any
    kernel: str = ""
    """The path of the parameter that it is a form of, untouched by the inputs."""
    root: object = None
    """The array that it is a function of, entry by entry; None if it depends on no input."""
    fired: int | None = None
    """The number of the activation that it is, or is a function of, entry by entry."""
    units: int | None = None
    """The axis that counts the last layer's units, while it can be followed."""


@dataclass
class _Pass:
    """One forward pass, equation by equation."""

    functions: tuple[str, ...]
    axes: dict[str, int]
    """Number of axes of each parameter that may be a kernel, by path."""
    layers: list[str] = field(default_factory=list)
    """Paths of the kernels, in the order in which their layers are called."""
    fired: list[tuple[str, Array]] = field(default_factory=list)
    hidden: int = 0
    """Number of activations that came before the last layer."""
    features: Array | None = None

    def run(self, program: ClosedJaxpr, values: Sequence[_Value]) -> list[_Value]:
        """Run a program and note what it calls."""
        jaxpr = program.jaxpr
        known: dict[Any, _Value] = dict(zip(jaxpr.invars, values, strict=True))
        known.update(zip(jaxpr.constvars, map(_Value, program.consts), strict=True))

        def look_up(atom: Any) -> _Value:
            return _Value(atom.val) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            results = self._step(equation, [look_up(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [look_up(atom) for atom in jaxpr.outvars]

    def recorded(self) -> Recorded:
        """Return features and activations, once all is run."""
        activations: dict[str, Array] = {}
        homes = [path.rpartition("/")[0] for path in dict.fromkeys(self.layers)]
        for path, units in self.fired[: self.hidden]:
            home = path.rpartition("/")[0]
            layer = home if home and homes.count(home) == 1 else path
            times = sum(name.split("#")[0] == layer for name in activations)
            activations[f"{layer}#{times + 1}" if times else layer] = units
        if self.features is None or not activations:
            raise ValueError(
                "no activation was found between two layers of this network. Name its activation "
                "functions (activations=...), or give activations and features to "
                "kanbatsu.probes.health.network_health yourself"
            )
        return self.features, activations

    def _step(self, equation: JaxprEqn, operands: list[_Value]) -> list[_Value]:
        name, params = equation.primitive.name, equation.params
        is_fed = any(operand.root is not None for operand in operands)
        arrays = [operand.array for operand in operands]
        if name in CALLS:
            inner = params["call_jaxpr"] if "call_jaxpr" in params else params["jaxpr"]
            program = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
            called = params.get("name", program.jaxpr.debug_info.func_name)
            if not (is_fed and self.layers and called in self.functions):
                return self.run(program, operands)
            (y,) = jaxpr_as_fun(program)(*arrays)
            return [self._fire(_Value(y, root=object(), units=_units(operands, y)))]
        kernel = next((x.kernel for x in reversed(operands) if x.kernel), "")
        is_layer = bool(is_fed and kernel) and self._enter(equation, operands, kernel)
        results = equation.primitive.bind(*arrays, **params)
        results = results if equation.primitive.multiple_results else [results]
        if not is_fed:  # a form of a parameter stays one: masked, rounded, divided by its norm
            kernel = "" if name in LAYERS else kernel
            return [_Value(y, kernel=kernel) for y in results]
        if is_layer:
            (y,) = results
            return [_Value(y, root=object(), units=_units_of_layer(equation, operands, y))]
        order = params["permutation"] if name == "transpose" else ()
        values = [_Value(y, root=object(), units=_units(operands, y, order)) for y in results]
        return [self._elementwise(equation, operands, *values)] if name in ELEMENTWISE else values

    def _enter(self, equation: JaxprEqn, operands: list[_Value], kernel: str) -> bool:
        """Note that a layer is about to be called, if it is one."""
        name, params = equation.primitive.name, equation.params
        is_mapped = any(_multiplies(program) for program in jaxprs_in_params(params))
        if name == "dot_general":
            is_mapped = bool(params["dimension_numbers"][1][0])
        elif name == "conv_general_dilated":
            is_mapped = operands[1].array.ndim < self.axes[kernel]
        fed = [operand.array for operand in operands if operand.root is not None]
        if (name not in LAYERS and not is_mapped) or (name in LAYERS and len(fed) == 2):
            return False
        if is_mapped:
            raise ValueError(
                f"{kernel} lies in vmap or in a loop, which hides what it computes. Of an "
                "ensemble, probe one member: its own function, with its share of the parameters"
            )
        (x,) = fed
        if name == "dot_general":
            contracted = params["dimension_numbers"][0][operands[0].root is None]
            x = jnp.moveaxis(x, contracted, range(-len(contracted), 0))
        self.layers.append(kernel)
        self.hidden = len(self.fired)
        self.features = _batch(x).reshape(x.shape[0], -1).astype(jnp.float32)
        return True

    def _elementwise(self, equation: JaxprEqn, operands: list[_Value], y: _Value) -> _Value:
        """Find activation functions that are written out, and what x * tanh(x) belongs to."""
        name = equation.primitive.name
        fed = [operand for operand in operands if operand.root is not None]
        if len({id(operand.root) for operand in fed}) > 1 or not self.layers:
            return y
        fired = [operand.fired for operand in fed if operand.fired is not None]
        part = max(fired, default=None)
        is_gated = name == "mul" and 0 < len(fired) < len(fed)
        is_chosen = name == "select_n" and operands[0].root is not None
        is_cut = name == "max" and y.units is not None and any(map(_is_zero, equation.invars))
        y = replace(y, root=fed[0].root, fired=part if len(fired) == len(fed) else None)
        if is_gated or is_chosen:
            return self._fire(y, part)
        return self._fire(y) if name in SQUASHING or is_cut else y

    def _fire(self, y: _Value, number: int | None = None) -> _Value:
        """Keep an activation, in place of one that was a part of it where that is given."""
        units = _batch(jax.lax.stop_gradient(y.array)).astype(jnp.float32)
        units = jnp.moveaxis(units, -1 if y.units is None else y.units, -1)
        if units.ndim > 2:  # dormancy asks for the mean magnitude: over places first is the same
            units = jnp.abs(units).mean(axis=tuple(range(1, units.ndim - 1)))
        number = len(self.fired) if number is None else number
        self.fired[number : number + 1] = [(self.layers[-1], units)]
        return replace(y, fired=number)


def _units_of_layer(equation: JaxprEqn, operands: list[_Value], y: Any) -> int:
    """The axis of a layer's output that its kernel's outputs are in."""
    if equation.primitive.name == "conv_general_dilated":
        return equation.params["dimension_numbers"].out_spec[1]
    return 0 if operands[0].root is None else y.ndim - 1


def _units(operands: list[_Value], y: Any, order: Sequence[int] = ()) -> int | None:
    """Follow the axis of units through an operation that keeps all entries."""
    for x in operands:
        if x.units is not None and x.array.size == y.size:
            if order:
                return order.index(x.units)
            before, size = math.prod(x.array.shape[: x.units]), x.array.shape[x.units]
            fitting = (
                axis
                for axis, length in enumerate(y.shape)
                if length == size and math.prod(y.shape[:axis]) == before
            )
            return next(fitting, None)
    return None


def _multiplies(program: Any) -> bool:
    """Tell whether a layer may lie in a program."""
    return any(
        equation.primitive.name in LAYERS
        or any(map(_multiplies, jaxprs_in_params(equation.params)))
        for equation in program.eqns
    )


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, Literal) and bool(atom.val == 0)


def _batch(x: Any) -> Any:
    if x.ndim < 2:
        raise ValueError("the inputs must be a batch: their first axis counts samples")
    return x
