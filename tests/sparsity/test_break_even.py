"""The break-even: measured once, kept for later processes, and obeyed by `prune`."""

import json

import jax
import numpy as np
import pytest

import kanbatsu
from kanbatsu.kernels.library import library
from kanbatsu.nn.layers import Linear
from kanbatsu.sparsity import break_even as module

needs_kernels = pytest.mark.skipif(library() is None, reason="the kernels were not built")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KANBATSU_CACHE", str(tmp_path / "cache"))
    module.break_even.cache_clear()
    yield tmp_path / "cache" / "break-even.json"
    module.break_even.cache_clear()


def measured(monkeypatch, **shares):
    calls = []
    monkeypatch.setattr(module, "measure", lambda: calls.append(1) or shares)
    return calls


def test_a_machine_is_measured_once(cache, monkeypatch):
    calls = measured(monkeypatch, element=0.4, grouped=0.8)
    assert module.break_even() == {"element": 0.4, "grouped": 0.8}
    module.break_even.cache_clear()  # as another process would begin
    assert module.break_even() == {"element": 0.4, "grouped": 0.8}
    assert len(calls) == 1
    assert list(json.loads(cache.read_text()).values()) == [{"element": 0.4, "grouped": 0.8}]


def test_who_writes_first_decides_for_all(cache, monkeypatch):
    def measure_while_another_process_writes():
        measured(monkeypatch, element=0.1, grouped=0.1)
        module.break_even.__wrapped__()
        return {"element": 0.9, "grouped": 0.9}

    monkeypatch.setattr(module, "measure", measure_while_another_process_writes)
    assert module.break_even() == {"element": 0.1, "grouped": 0.1}


@pytest.mark.parametrize("content", ["", "no json", "{"])
def test_a_damaged_file_is_measured_again(cache, monkeypatch, content):
    cache.parent.mkdir()
    cache.write_text(content)
    measured(monkeypatch, element=0.4, grouped=0.8)
    assert module.break_even()["element"] == 0.4


def test_a_home_that_cannot_be_written_to_is_no_error(tmp_path, monkeypatch, cache):
    (tmp_path / "cache").write_text("a file where the folder should be")
    measured(monkeypatch, element=0.4, grouped=0.8)
    assert module.break_even()["grouped"] == 0.8


@needs_kernels
@pytest.mark.parametrize(
    ("sparsity", "pattern", "group_size", "kind"),
    [
        (0.7, "element", 16, kanbatsu.Packed),
        (0.5, "element", 16, kanbatsu.Masked),
        (0.5, "grouped", 16, kanbatsu.Grouped),
        (0.5, "grouped", 5, kanbatsu.Masked),  # no group size of the kernels
        (0.1, "grouped", 16, kanbatsu.Masked),
    ],
)
def test_auto_packs_what_keeps_less(cache, monkeypatch, sparsity, pattern, group_size, kind):
    measured(monkeypatch, element=0.4, grouped=0.8)
    layer = Linear(128, 128, jax.nn.initializers.he_normal(), key=jax.random.key(0))
    pruned = kanbatsu.prune(
        layer, sparsity, key=jax.random.key(1), pattern=pattern, group_size=group_size
    )
    assert type(pruned.weight) is kind


def test_small_layers_stay_masked_and_are_not_measured(cache, monkeypatch):
    calls = measured(monkeypatch, element=1.0, grouped=1.0)
    layer = Linear(64, 64, jax.nn.initializers.he_normal(), key=jax.random.key(0))
    pruned = kanbatsu.prune(layer, 0.9, key=jax.random.key(1))
    assert type(pruned.weight) is kanbatsu.Masked
    assert not calls


def test_an_unknown_compute_is_refused():
    layer = Linear(4, 4, jax.nn.initializers.he_normal(), key=jax.random.key(0))
    with pytest.raises(ValueError, match="unknown compute 'fast': choose from"):
        kanbatsu.prune(layer, 0.5, key=jax.random.key(1), compute="fast")


@needs_kernels
def test_the_measurement_gives_shares(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 32)
    monkeypatch.setattr(module, "REPEATS", 2)
    shares = module.measure()
    assert set(shares) == {"element", "grouped"}
    assert all(0.0 <= share <= 1.0 and np.isfinite(share) for share in shares.values())
