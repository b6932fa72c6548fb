"""Which layers are packed: what `auto` comes to, and the rule of `mixed`."""

import jax
import numpy as np
import pytest

import kanbatsu
from kanbatsu.nn.layers import Linear
from kanbatsu.sparsity import compute as module
from kanbatsu.sparsity.config import COMPUTE
from kanbatsu.sparsity.weight import matmul


def layer(inputs, outputs):
    return Linear(inputs, outputs, jax.nn.initializers.he_normal(), key=jax.random.key(0))


@pytest.mark.parametrize(
    ("sparsity", "pattern", "group_size", "kind"),
    [
        (0.7, "element", 16, kanbatsu.Packed),
        (0.69, "element", 16, kanbatsu.Masked),
        (0.9, "bernoulli", 16, kanbatsu.Packed),
        (0.5, "grouped", 16, kanbatsu.Grouped),
        (0.49, "grouped", 16, kanbatsu.Masked),
        (0.5, "grouped", 5, kanbatsu.Masked),  # no group size of the kernels
    ],
)
@pytest.mark.parametrize("kernels", [True, False])
def test_mixed_packs_what_keeps_little(monkeypatch, sparsity, pattern, group_size, kind, kernels):
    if not kernels:  # the rule reads the layer alone
        monkeypatch.setattr(module, "library", lambda: None)
    pruned = kanbatsu.prune(
        layer(128, 128),
        sparsity,
        key=jax.random.key(1),
        pattern=pattern,
        group_size=group_size,
        compute="mixed",
    )
    assert type(pruned.weight) is kind


def test_small_layers_stay_masked():
    for width, kind in ((127, kanbatsu.Masked), (128, kanbatsu.Packed)):
        pruned = kanbatsu.prune(layer(128, width), 0.9, key=jax.random.key(1), compute="mixed")
        assert type(pruned.weight) is kind


@pytest.mark.parametrize(
    ("backend", "kernels", "expected"),
    [("cpu", True, "mixed"), ("cpu", False, "masked"), ("gpu", True, "masked")],
)
def test_auto_is_mixed_on_a_cpu_with_kernels(monkeypatch, backend, kernels, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(module, "library", lambda: object() if kernels else None)
    assert module.resolve("auto") == expected
    for other in set(COMPUTE) - {"auto"}:
        assert module.resolve(other) == other


@pytest.mark.parametrize("pattern", ["element", "grouped"])
def test_packed_layers_multiply_without_kernels(monkeypatch, pattern):
    monkeypatch.setattr("kanbatsu.kernels.primitive.library", lambda: None)
    options = {"key": jax.random.key(1), "pattern": pattern}
    packed = kanbatsu.prune(layer(128, 128), 0.9, compute="mixed", **options)
    masked = kanbatsu.prune(layer(128, 128), 0.9, compute="masked", **options)
    x = jax.random.normal(jax.random.key(2), (5, 128))
    np.testing.assert_allclose(
        jax.jit(matmul)(x, packed.weight), matmul(x, masked.weight), rtol=1e-5, atol=1e-5
    )


def test_an_unknown_compute_is_refused():
    with pytest.raises(ValueError, match="unknown compute 'fast': choose from"):
        kanbatsu.prune(layer(4, 4), 0.5, key=jax.random.key(1), compute="fast")
