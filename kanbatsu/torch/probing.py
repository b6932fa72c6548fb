"""The health of a torch module on one batch, in the numbers that kanbatsu's own agents log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kanbatsu.probes.health import health_of
from kanbatsu.torch.find import layers_by_path as kernels
from kanbatsu.torch.pruned import Pruned
from kanbatsu.torch.tape import Activations, recording


def probe(
    module: nn.Module,
    *inputs: Any,
    loss: Callable[[Any], Tensor] | None = None,
    activations: Activations = (),
    features: str = "",
) -> dict[str, float]:
    """Measure the health of a torch module on one batch.

    The module is called once, as `module(*inputs)`, in evaluation mode (no dropout, running
    statistics of BatchNorm), and left as it was: no statistic, gradient or random number moves.

    Hidden activations are found by themselves: whatever a ReLU, tanh, GELU and so on returns,
    module (`nn.ReLU`) or function (`torch.relu`), if a linear or convolution layer is called
    before it and another one after it. It bears the name of the last one before it. The tanh that
    squashes an action at the end is no hidden layer. After a convolution a unit is a channel. The
    features are what the last layer reads. `kanbatsu.probes.jaxpr` goes by the same definition.

    Use a batch of more samples than the features are wide, or srank measures the batch.

    Args:
        module: any torch module.
        *inputs: what it is called with; the first axis of each tensor counts samples.
        loss: of the module's output, to be differentiated for the gradient norm. Without it the
            norm is that of the gradients that the parameters hold (`.grad`), left by the last
            `backward`.
        activations: in place of what is found: names of modules whose outputs are activations,
            or, for activation functions that are not found, a mapping of the names of layers to
            the functions that their outputs go through, such as `{"fc1": my_activation}`.
        features: the name of the module whose output is the features.

    Returns:
        `dormant_0.1`, `dormant_0.025` (in all, and `dormant_0.1/<layer>` for each), `srank`,
        `weight_norm`, `feature_norm`, and `gradient_norm` where there is a gradient.

    Raises:
        ValueError: if no hidden activation or no layer is found, or a name is unknown.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> health = probe(network, torch.randn(64, 3), loss=lambda value: (value**2).mean())
        >>> [name for name in health if name.startswith("dormant_0.1")]
        ['dormant_0.1', 'dormant_0.1/0']

    Reference:
        `kanbatsu.probes` has the definitions, and where they come from.
    """
    with _at_rest(module), torch.enable_grad():
        with recording(module, activations, features) as tape:
            output = module(*inputs)
        gradients = _held(module) if loss is None else _differentiate(module, loss(output))
    if tape.features is None:
        raise ValueError(
            "no linear or convolution layer was called: name a module whose output is the "
            "features (features=...), and modules whose outputs are activations (activations=...)"
        )
    if not tape.activations:
        raise ValueError(
            "no hidden activation was found, that is, none that a linear or convolution layer "
            "reads: name modules whose outputs are activations (activations=...)"
        )
    activity = {name: _array(x) for name, x in tape.activations.items()}
    norms = _norm(gradients), _norm(_weights(module))
    health = health_of(_array(tape.features), activity, *norms)
    return {name: float(x) for name, x in health.items() if gradients or name != "gradient_norm"}


@contextmanager
def _at_rest(module: nn.Module) -> Iterator[None]:
    """Evaluate without a trace: in evaluation mode, on a copy of the random numbers."""
    training = {part: part.training for part in module.modules()}
    gpus = {x.device.index for x in module.parameters() if x.device.type == "cuda"}
    try:
        for part in training:
            part.training = False
        with torch.random.fork_rng(sorted(gpus)):
            yield
    finally:
        for part, was in training.items():
            part.training = was


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """All parameters, zero where pruned."""
    masked = {
        id(layer.weight): layer.masked_weight()
        for layer in kernels(module).values()
        if isinstance(layer, Pruned) and "weight" in layer._parameters
    }
    return {name: masked.get(id(value), value) for name, value in module.named_parameters()}


def _held(module: nn.Module) -> dict[str, Tensor]:
    return {name: x.grad for name, x in module.named_parameters() if x.grad is not None}


def _differentiate(module: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of a loss in every trainable parameter that it depends on."""
    trainable = {name: x for name, x in module.named_parameters() if x.requires_grad}
    gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
    found = zip(trainable, gradients, strict=True)
    return {name: gradient for name, gradient in found if gradient is not None}


def _norm(tensors: dict[str, Tensor]) -> np.float32:
    """Return the Euclidean norm of all numbers together."""
    squares = [np.sum(_array(x) ** 2) for x in tensors.values()]
    return np.sqrt(np.sum(squares, dtype=np.float32))


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float32).numpy()
