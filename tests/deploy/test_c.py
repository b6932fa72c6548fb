"""The C file of a policy: compiled by this machine, it acts as the runtime does, and says so."""

import json
import re
import subprocess

import numpy as np
import pytest

from kanbatsu.deploy import export_policy, load
from kanbatsu.deploy.c_check import FLAGS, compiler
from kanbatsu.deploy.c_file import to_c
from kanbatsu.deploy.compute import run
from kanbatsu.deploy.contract import Contract, Image
from kanbatsu.deploy.files import read
from kanbatsu.deploy.functions import FUNCTIONS
from kanbatsu.deploy.layers import (
    Activate,
    Add,
    ChannelsLast,
    Choose,
    Clip,
    Conv,
    Dense,
    LayerNorm,
    Linear,
    Normalise,
    Remember,
    Squash,
    with_dense_weights,
)
from kanbatsu.deploy.network import smallest
from kanbatsu.deploy.write import Export, Original, write_policy

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")
STRICT = (*FLAGS, "-Wconversion", "-Wdouble-promotion", "-Wshadow")
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def weight(inputs, outputs, stored):
    value = floats(inputs, outputs) / np.sqrt(inputs, dtype=np.float32)
    if stored == "dense":
        return Dense(value)
    if stored == "element":
        mask = RNG.random((inputs, outputs)) < 0.2
    else:
        lists = np.argsort(RNG.random((inputs, -(-outputs // 8))), axis=0) < inputs // 5
        mask = np.repeat(lists, 8, axis=1)[:, :outputs]
    return smallest(value * mask, mask)


def linear(inputs, outputs, stored="dense", relu=False):
    bias = floats(outputs) / 10
    return Linear(weight(inputs, outputs, stored), bias, inputs, outputs, relu)


def normalise(width):
    return Normalise(floats(width), np.abs(floats(width)) + 1)


def every_activation():
    hidden = [layer for f in FUNCTIONS for layer in (Activate(f, 0.3), norm(43))]
    ends = np.array([-1, -2, 0], np.float32), np.array([1, 2, 50], np.float32)
    first = [Remember(), norm(40), linear(40, 43, "grouped", relu=True)]
    last = [linear(43, 40, "element"), Add(), linear(40, 3), Squash(*ends)]
    return [normalise(17), linear(17, 40), *first, *hidden, *last]


def norm(width):
    return LayerNorm(floats(width), floats(width), 1e-5)


def choices():
    end = Choose(np.array([3, 2, 4], np.int32), np.array([0, 5, 0], np.int32), scalar=False)
    return [normalise(17), linear(17, 40, "element", relu=True), linear(40, 9, "grouped"), end]


def images():
    first = Conv(weight(128, 32, "grouped"), floats(32), 2, 20, 20, 32, 8, 4, relu=True)
    second = Conv(weight(128, 12, "dense"), floats(12), 32, 4, 4, 12, 2, 1, relu=False)
    ends = np.array([-1, -0.1], np.float32), np.array([0.2, np.finfo(np.float32).max], np.float32)
    whole = [Normalise(np.zeros(800, np.float32), np.full(800, 255, np.float32))]
    whole += [ChannelsLast(2, 400), first, second, norm(12), Activate("relu", 1.0)]
    return [*whole, linear(108, 2, "element"), Clip(*ends)]


KINDS = {
    "activations": (every_activation, None),
    "choices": (choices, None),
    "images": (images, Image((2, 20, 20))),
}


def program(source, folder):
    """Compile a file with the program that is in it, and run that."""
    (folder / "main.c").write_text(source)
    words = [compiler(), *STRICT, "-DKANBATSU_MAIN", "main.c", "-o", "main", "-lm"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return subprocess.run([folder / "main"], capture_output=True, text=True)


@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_as_the_runtime_does(kind, tmp_path):
    make, image = KINDS[kind]
    layers = make()
    dense = with_dense_weights(layers)

    def original(obs):
        numbers = run(dense, obs)
        return numbers + layers[-1].starts if isinstance(layers[-1], Choose) else numbers

    how = Export(Contract(licence="*/ evil"), c=True)
    write_policy(layers, tmp_path / "policy", Original(original, "numpy"), how, image=image)
    loaded = load(tmp_path / "policy")
    golden = loaded.contract["golden"]
    assert golden["c_parity_error"] < 2e-6
    assert golden["onnx_parity_error"] < 2e-6
    assert np.ptp(golden["actions"], axis=0).max() > 0
    source = (tmp_path / "policy/policy.c").read_text()
    called = set(re.findall(r"\b[a-z]+f\(", source)) - {"if("}
    assert called <= {"tanhf(", "expf(", "printf("}
    assert not {"double", "malloc(", "free("} & set(re.findall(r"\w+\(?", source))
    assert "licence _/ evil" in source
    done = program(source, tmp_path)
    assert done.returncode == 0
    assert int(done.stdout.split()[0]) < 2_000  # billionths


def test_a_pruned_simba_of_ours_and_a_golden_pair_that_is_not_met(make, tmp_path):
    _, state = make(stored="element")
    units = Contract(action_names=("hip", "knee", "ankle"), action_units=("N m",) * 3)
    export_policy(
        state.actor,
        state.normaliser,
        tmp_path / "policy",
        low=-2.0,
        high=2.0,
        contract=units,
        c=True,
    )
    layers, contract = read(tmp_path / "policy")
    source = (tmp_path / "policy/policy.c").read_text()
    assert source == to_c(layers, contract | {"golden": without_forms(contract)})
    assert contract["golden"]["c_parity_error"] < 2e-6
    assert "[1] knee unit N m, from -2.0 to 2.0" in source
    assert contract["sha256"]["policy.safetensors"] in source
    assert len(source) < 20 * sum(np.size(layer) for layer in kept(layers))
    golden = json.loads(json.dumps(contract["golden"]))
    golden["actions"][3][1] += 0.01
    done = program(to_c(layers, contract | {"golden": golden}), tmp_path)
    assert done.returncode == 1
    assert int(done.stdout.split()[0]) == pytest.approx(0.005e9, rel=1e-3)


def without_forms(contract):
    forms = ("onnx_parity_error", "onnx_by", "c_parity_error", "c_by")
    return contract["golden"] | dict.fromkeys(forms)


def kept(layers):
    """The arrays of all layers."""
    for layer in layers:
        fields = [*layer, *getattr(layer, "weight", ())]
        yield from (field for field in fields if isinstance(field, np.ndarray))
