"""PyTorch is an extra: only this room and adapters of its libraries need it."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import kanbatsu.torch

PACKAGE = Path(kanbatsu.__file__).parent


def test_the_public_names():
    assert all(callable(getattr(kanbatsu.torch, name)) for name in kanbatsu.torch.__all__)


def test_without_pytorch_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    spec = importlib.util.spec_from_file_location("fresh", kanbatsu.torch.__file__)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kanbatsu\[torch\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_no_other_room_imports_pytorch_when_it_loads():
    importing = {
        "/".join(path.relative_to(PACKAGE).parts[:2])
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^(import|from) torch\b", path.read_text(), re.MULTILINE)
    }
    outside = {path for path in importing if not path.startswith("torch/")}
    assert outside == {
        "integrations/actors.py",
        "integrations/networks.py",
        *(f"integrations/{name}" for name in ("rsl_rl", "sb3", "skrl", "tianshou", "torchrl")),
    }
