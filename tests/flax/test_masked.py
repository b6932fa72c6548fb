"""A linen module that prunes itself: libraries build the optimizer, and nothing is undone."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, serialization
from flax.training.train_state import TrainState

import kanbatsu
from kanbatsu.flax import masks, pruned
from kanbatsu.flax.masked import _draw
from kanbatsu.sparsity.config import Pruning
from kanbatsu.sparsity.kernel import Kernel
from kanbatsu.sparsity.pattern import draw

X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 5)), jnp.float32)


class ActorCritic(linen.Module):
    """As in scripts of PureJaxRL's kind: one module, two heads, a method of its own."""

    actions: int = 3

    @linen.compact
    def __call__(self, x):
        hidden = linen.tanh(linen.Dense(32)(x))
        value = linen.Dense(1)(linen.tanh(linen.Dense(32, name="critic")(x)))
        return linen.Dense(self.actions)(hidden), value[..., 0]

    def value(self, x):
        return self(x)[1]


NETWORK = pruned(ActorCritic(), 0.6)
VARIABLES = jax.jit(NETWORK.init)(jax.random.key(0), X)


def loss(variables):
    logits, value = NETWORK.apply(variables, X)
    return ((logits - 1.0) ** 2).mean() + ((value - 1.0) ** 2).mean()


def gone(variables):
    """What lies where nothing is kept."""
    kept = masks(variables)
    pairs = zip(
        jax.tree.leaves(variables["params"]),
        jax.tree.leaves(kept, is_leaf=lambda x: x is None),
        strict=True,
    )
    return np.concatenate([np.asarray(x)[~np.asarray(m)] for x, m in pairs if m is not None])


def test_init_draws_exact_counts_and_apply_is_the_plain_module_with_zeros():
    counted = kanbatsu.count(VARIABLES["params"], masks(VARIABLES))
    assert counted.total == 5 * 32 + 32 * 1 + 5 * 32 + 32 * 3
    assert counted.kept == round(0.4 * counted.total)
    assert not gone(VARIABLES).any()
    plain = ActorCritic().apply({"params": VARIABLES["params"]}, X)
    for ours, theirs in zip(NETWORK.apply(VARIABLES, X), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    value = NETWORK.apply(VARIABLES, X, method="value")
    np.testing.assert_array_equal(value, plain[1])
    np.testing.assert_array_equal(NETWORK.bind(VARIABLES).value(X), plain[1])
    (logits, _), variables = NETWORK.init_with_output(jax.random.key(0), X)
    np.testing.assert_allclose(logits, NETWORK.apply(variables, X)[0], rtol=1e-6)


OPTIMIZERS = {
    "clip, adam": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2)),
    "adamw": optax.adamw(1e-2, weight_decay=0.5),
    "lion": optax.lion(1e-2),
    "sgd, momentum": optax.sgd(1e-2, momentum=0.9),
    "rmsprop": optax.rmsprop(1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@jax.numpy_dtype_promotion("standard")  # which optax relies on
def test_every_optimizer_leaves_the_masks_alone(name):
    state = TrainState.create(apply_fn=NETWORK.apply, params=VARIABLES, tx=OPTIMIZERS[name])
    step = jax.jit(lambda state: state.apply_gradients(grads=jax.grad(loss)(state.params)))
    first = loss(VARIABLES)
    for _ in range(20):
        state = step(state)
    assert loss(state.params) < first
    assert not gone(state.params).any()
    before, after = (jax.tree.leaves(masks(x)) for x in (VARIABLES, state.params))
    assert all(bool((a == b).all()) for a, b in zip(before, after, strict=True))


def test_what_is_written_where_nothing_is_kept_has_no_say():
    """As evolution strategies and noisy optimizers write, into the masks too."""
    noise = np.random.default_rng(0)

    def stir(x):
        return x + jnp.asarray(0.1 * noise.normal(size=x.shape), x.dtype)

    stirred = jax.tree.map(stir, VARIABLES)
    assert gone(stirred).any()
    zeroed = kanbatsu.apply_masks(stirred["params"], masks(VARIABLES))
    expected = ActorCritic().apply({"params": zeroed}, X)[0]
    np.testing.assert_array_equal(NETWORK.apply(stirred, X)[0], expected)
    target = jax.tree.map(lambda a, b: 0.995 * a + 0.005 * b, VARIABLES, stirred)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()),
                                            masks(target), masks(VARIABLES))))  # fmt: skip


def test_checkpoints_carry_the_masks():
    saved = serialization.to_bytes(VARIABLES)
    other = NETWORK.init(jax.random.key(7), X)
    assert not jnp.array_equal(
        masks(other)["critic"]["kernel"], masks(VARIABLES)["critic"]["kernel"]
    )
    loaded = serialization.from_bytes(other, saved)
    np.testing.assert_array_equal(NETWORK.apply(loaded, X)[0], NETWORK.apply(VARIABLES, X)[0])


def test_seeds_side_by_side_have_masks_of_their_own():
    keys = jax.random.split(jax.random.key(0), 3)
    stacked = jax.jit(jax.vmap(NETWORK.init, (0, None)))(keys, X)
    kernels = stacked["masks"]["critic"]["kernel"] > 0
    counts = kernels.sum((1, 2))
    assert (counts == counts[0]).all()
    assert not (kernels[0] == kernels[1]).all()
    alone = NETWORK.init(keys[1], X)
    np.testing.assert_array_equal(alone["masks"]["critic"]["kernel"] > 0, kernels[1])


@pytest.mark.parametrize(("pattern", "kept"), [("element", 37), ("grouped", 5 * 20)])
def test_masks_are_those_that_the_host_draws(pattern, kept):
    key, kernel = jax.random.key(3), Kernel(("k",), (12, 20))
    drawn = _draw(key, kernel, kept, Pruning(0.5, pattern=pattern, group_size=8))
    expected = draw(jax.random.split(key, 1)[0], (12, 20), kept, pattern, 8)
    np.testing.assert_array_equal(drawn, expected)


def test_critics_that_vmap_stacked_have_masks_of_their_own():
    class Critic(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(linen.relu(linen.Dense(16)(x)))

    pair = linen.vmap(
        Critic, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2
    )
    variables = pruned(pair(), 0.5).init(jax.random.key(0), X)
    first, second = variables["masks"]["Dense_1"]["kernel"] > 0
    assert first.sum() == second.sum()
    assert not (first == second).all()


def test_the_same_arguments_make_equal_modules():
    assert pruned(ActorCritic(), 0.6) == NETWORK
    assert hash(NETWORK) == hash(pruned(ActorCritic(), 0.6))
    assert pruned(ActorCritic(), 0.5) != NETWORK
    assert isinstance(NETWORK, ActorCritic)
    assert NETWORK.clone(actions=7).init(jax.random.key(0), X)["masks"]


class Outer(linen.Module):
    inner: linen.Module

    @linen.compact
    def __call__(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NETWORK.apply({"params": VARIABLES["params"]}, X), "have no 'masks'.*not only"),
        (lambda: Outer(NETWORK).init(jax.random.key(0), X), "cannot be a part of Outer.*include="),
        (lambda: pruned(ActorCritic(), 0.6, exclude="nobody").init(jax.random.key(0), X),
         "'nobody' matches no prunable weight; the paths are: Dense_0/kernel"),
        (lambda: pruned(linen.LayerNorm(), 0.5).init(jax.random.key(0), X), "nothing to prune"),
        (lambda: pruned(NETWORK, 0.5).init(jax.random.key(0), X), "is pruned already"),
        (lambda: pruned(ActorCritic(), 1.0).init(jax.random.key(0), X), r"must lie in \[0, 1\)"),
        (lambda: pruned(ActorCritic(), 0.5, pattern="rows"), "unknown pattern 'rows'"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_layers_are_named_by_globs():
    variables = pruned(ActorCritic(), 0.6, include="critic").init(jax.random.key(0), X)
    assert list(variables["masks"]) == ["critic"]
    assert gone(variables).size == round(0.6 * 5 * 32)


def test_a_script_of_purejaxrls_style_trains_pruned_seeds_in_one_program(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "12_purejaxrl_style.py"
    command = [sys.executable, "-W", "error", str(example)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = (
        r"(\d+) of (\d+) weights kept, reward ([\d.]+) -> ([\d.]+), largest pruned weight: ([\d.]+)"
    )
    found = re.findall(line, done.stdout)
    assert len(found) == 2
    for kept, total, first, last, largest in (map(float, numbers) for numbers in found):
        assert kept == round(0.2 * total)
        assert last > first
        assert largest == 0.0
