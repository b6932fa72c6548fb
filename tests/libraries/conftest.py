"""What the tests of libraries share: the page's script, run as it stands, and what must be zero."""

import contextlib
import copy
import re
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

import kanbatsu.torch
from kanbatsu.deploy import load
from kanbatsu.deploy.difference import kept as kept_by
from kanbatsu.deploy.files import read
from kanbatsu.deploy.layers import Product

PAGES = Path(__file__).parents[2] / "docs" / "libraries"


@pytest.fixture(scope="module")
def run_page(tmp_path_factory):
    """Run the script of a page, and return its names; kanbatsu is in its added lines only."""

    def run(page):
        blocks = re.findall(r"^```diff\n(.*?)^```", (PAGES / page).read_text(), re.S | re.M)
        lines = [line for block in blocks for line in block.splitlines()]
        assert not [line for line in lines if "kanbatsu" in line and line[:1] != "+"]
        names = {"__name__": page}
        folder = tmp_path_factory.mktemp("page")
        with contextlib.chdir(folder), jax.numpy_dtype_promotion("standard"):
            exec(compile("\n".join(line[1:] for line in lines), page, "exec"), names)
        return {**names, "folder": folder}

    return run


@pytest.fixture
def assert_pruned():
    """Assert that a module is pruned and holds zeros; with an optimizer, so do its moments."""

    def check(module, *optimizers):
        masks = kanbatsu.torch.masks(module)
        assert masks
        seen = 0
        for path, mask in masks.items():
            weight = module.get_parameter(path)
            assert not weight.detach()[~mask].any()
            assert weight.detach()[mask].any()
            for optimizer in optimizers:
                for moment in optimizer.state.get(weight, {}).values():
                    if moment.shape == weight.shape:
                        seen += 1
                        assert not moment[~mask].any()
        assert seen or not optimizers

    return check


@pytest.fixture
def same_masks():
    """Tell whether two modules have the same masks."""

    def same(one, other):
        one, other = kanbatsu.torch.masks(one), kanbatsu.torch.masks(other)
        return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)

    return same


@pytest.fixture
def unchanged():
    """Return a function that says whether modules are as they were when this was called."""

    def remember(*modules):
        before = [copy.deepcopy(module.state_dict()) for module in modules]

        def check():
            return all(
                list(old) == list(module.state_dict())
                and all(torch.equal(old[key], module.state_dict()[key]) for key in old)
                for old, module in zip(before, modules, strict=True)
            )

        return check

    return remember


@pytest.fixture
def assert_exported():
    """Assert that a folder holds a policy that acts as the library does, in every form."""

    def check(folder, observations, wanted, kept):
        policy = load(folder)
        actions = policy(observations.numpy())
        choices = np.issubdtype(actions.dtype, np.integer)
        wanted = np.asarray(wanted).reshape(actions.shape)
        assert np.ptp(wanted, axis=0).max() > 0
        if choices:
            assert (actions == wanted).mean() > 0.95  # a near tie may fall otherwise
        else:
            np.testing.assert_allclose(actions, wanted, atol=1e-5)
        golden = policy.contract["golden"]
        errors = [golden[f"{form}parity_error"] for form in ("", "onnx_", "c_")]
        assert max(error for error in errors if error is not None) < 1e-5
        if kept is not None:
            layers, _ = read(folder, None)
            stored = sum(kept_by(layer) for layer in layers if isinstance(layer, Product))
            assert stored == kept

    return check
