"""Tries an installed wheel without a compiler, JAX or torch: kernels load, and are right."""

import os
import shutil
import sys

import numpy as np

import kanbatsu
from kanbatsu.deploy.compute import run
from kanbatsu.deploy.layers import Dense, Linear, Normalise, Squash, with_dense_weights
from kanbatsu.deploy.native import Program
from kanbatsu.deploy.network import smallest
from kanbatsu.kernels.shared import shared_library
from kanbatsu.sparsity.pattern import draw
from kanbatsu.sparsity.threefry import Threefry

INPUTS, OUTPUTS = 96, 64


def layers(pattern: str, kept: int) -> list:
    """Return a policy of one pruned layer."""
    random = np.random.default_rng(0)
    mask = draw(Threefry.of(0), (INPUTS, OUTPUTS), kept, pattern, group_size=16)
    value = (random.normal(size=mask.shape) * mask).astype(np.float32)
    ends = np.full(OUTPUTS, -1.0, np.float32), np.full(OUTPUTS, 1.0, np.float32)
    stored = smallest(value, mask)
    assert not isinstance(stored, Dense), f"{pattern} was stored dense"
    return [
        Normalise(np.zeros(INPUTS, np.float32), np.ones(INPUTS, np.float32)),
        Linear(stored, np.ones(OUTPUTS, np.float32), INPUTS, OUTPUTS, relu=False),
        Squash(*ends),
    ]


def main() -> int:
    """Compare both kinds of kernels with numpy; a pure wheel has none, and says so."""
    library = shared_library()
    compilers = [name for name in ("cc", "gcc", "clang", "cmake") if shutil.which(name)]
    print(f"kanbatsu {kanbatsu.__version__}; compilers on the path: {compilers or 'none'}")
    if library is None:
        print("no kernels")
        return 0 if os.environ.get("KANBATSU_PURE") else 1
    obs = np.random.default_rng(1).normal(size=(7, INPUTS)).astype(np.float32)
    for pattern, kept in (("element", 700), ("grouped", 12 * OUTPUTS)):
        policy = layers(pattern, kept)
        expected = run(with_dense_weights(policy), obs)
        np.testing.assert_allclose(Program(library, policy)(obs), expected, atol=1e-5)
        print(f"{pattern}: equal to numpy, {library.kanbatsu_isa().decode()}")
    return 0


sys.exit(main())
