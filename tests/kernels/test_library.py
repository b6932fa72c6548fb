"""Every instruction set, any number of threads, and no kernels at all give the same results."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.kernels.constants import BLOCK, GROUP_SIZES
from kanbatsu.kernels.library import instruction_set, library, set_threads
from kanbatsu.kernels.shared import FILE

CPU = Path("/proc/cpuinfo")
FLAGS = set(CPU.read_text().split()) if CPU.exists() else set()
NEEDS = {"portable": set(), "avx2": {"avx2", "fma"}, "avx512": {"avx512f"}}
ROUNDING = 16 * np.finfo(np.float32).eps
"""Error allowed per unit of the sum of the absolute terms."""

needs_kernels = pytest.mark.skipif(library() is None, reason="kanbatsu has no kernels here")


@needs_kernels
def test_the_library_was_built_with_the_same_constants():
    assert library().kanbatsu_block() == BLOCK
    assert tuple(n for n in range(100) if library().kanbatsu_knows_group_size(n)) == GROUP_SIZES


@pytest.fixture(scope="module")
def questions(make_layer, tmp_path_factory):
    """Layers with their activations in a file, and what comes out, with its sum of terms."""
    generator = np.random.default_rng(0)
    arrays, expected = {}, {}
    for inputs, outputs, size, batch in (
        (90, 70, 1, 150),
        (1030, 40, 1, 1),
        (90, 70, 16, 150),
        (60, 41, 8, 1),
    ):
        layer = make_layer(inputs, outputs, 0.3, size)
        name = f"{layer.shape.layout}-{inputs}-{outputs}-{size}-{batch}"
        x, dy, bias = (
            generator.standard_normal(shape).astype(np.float32)
            for shape in ((batch, inputs), (batch, outputs), outputs)
        )
        mine = {"x": x, "dy": dy, "bias": bias, "values": layer.values}
        mine |= {f"structure{index}": array for index, array in enumerate(layer.structure)}
        arrays |= {f"{name}/{key}": array for key, array in mine.items()}
        x, dy, bias, dense = (array.astype(np.float64) for array in (x, dy, bias, layer.dense))
        y, terms = x @ dense, abs(x) @ abs(dense)
        dvalues = layer.values_of(x.T @ dy), layer.values_of(abs(x.T) @ abs(dy))
        expected |= {
            (name, "y"): (y, terms),
            (name, "positive"): (np.maximum(y + bias, 0), terms + abs(bias)),
            (name, "dx"): (dy @ dense.T, abs(dy) @ abs(dense.T)),
            (name, "dvalues"): dvalues,
            (name, "by_feature"): (x.sum(axis=0), abs(x).sum(axis=0)),
        }
    path = tmp_path_factory.mktemp("kernels") / "questions.npz"
    np.savez(path, **arrays)
    return path, expected


def ask(questions, isa=None, file=FILE):
    """Answer in another process, and check every number; returns its instruction set and words."""
    path, expected = questions
    answers = path.with_name("answers.npz")
    # NPROC is the number of threads that XLA makes: more than there are cores here.
    environment = os.environ | {"NPROC": "3"} | ({"KANBATSU_ISA": isa} if isa else {})
    script = Path(__file__).with_name("answers.py")
    done = subprocess.run(
        [sys.executable, script, path, answers, file],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(answers) as results:
        for (name, key), (value, terms) in expected.items():
            alone = results[f"{name}/1/{key}"]
            assert (np.abs(alone - value) <= ROUNDING * terms).all(), (name, key)
            for threads in (2, 0):
                np.testing.assert_array_equal(results[f"{name}/{threads}/{key}"], alone)
        return str(results["isa"]), done.stderr


@needs_kernels
@pytest.mark.parametrize("isa", NEEDS)
def test_every_instruction_set_gives_the_dense_results_with_any_threads(questions, isa):
    if not NEEDS[isa] <= FLAGS:
        pytest.skip(f"this processor has no {isa}")
    assert ask(questions, isa)[0] == isa


def test_without_kernels_the_results_are_the_same_and_one_line_says_so(questions):
    isa, words = ask(questions, file="absent.so")
    assert isa == "None"
    assert words.count("was installed without its kernels") == 1


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.skipif(platform.system() == "Windows", reason="the kernels need GCC or Clang")
def test_the_tests_run_the_kernels():
    # Without this line a library that is not found would turn every other test into one of the
    # dense formula.
    assert instruction_set() in NEEDS


@needs_kernels
def test_an_instruction_set_that_there_is_not_is_refused_by_name():
    done = subprocess.run(
        [sys.executable, "-c", "from kanbatsu.kernels.library import library; library()"],
        env=os.environ | {"KANBATSU_ISA": "avx51"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "did you mean avx512? The names are avx512, avx2, portable" in done.stderr


def test_a_negative_number_of_threads_is_refused():
    with pytest.raises(ValueError, match="at least 1, or 0 for no limit: got -1"):
        set_threads(-1)
