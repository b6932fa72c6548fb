"""Parameters of a function that a file names, read in another process that imports little else."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kanbatsu.files.tables import did_you_mean

MARK = "kanbatsu parameters: "
"""Beginning of the line in which a function's parameters come back from another process."""


class Parameters(NamedTuple):
    """Parameters of a training function."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    any: bool
    """True where it takes parameters of any name."""


@functools.lru_cache(maxsize=64)
def parameters(function: str) -> Parameters:
    """Return what a training function takes; it is imported in another process.

    Raises:
        ValueError: It cannot be imported, or is no function.
    """
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "kanbatsu.run.signature", function],
        env={"JAX_PLATFORMS": "cpu", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    words = ended.stdout.decode(errors="replace").splitlines()
    for line in words:
        if line.startswith(MARK):
            names, required, anything = json.loads(line.removeprefix(MARK))
            return Parameters(tuple(names), tuple(required), anything)
    last = (words + ended.stderr.decode(errors="replace").strip().splitlines())[-1:]
    raise ValueError(
        f"train = {function!r} cannot be imported (exit code {ended.returncode}): "
        f"{''.join(last) or 'it printed nothing'}"
    )


def find_function(function: str) -> Callable[..., Any]:
    """Import a function by `package.module:function`; the current folder is looked in last.

    Raises:
        ValueError: There is no such module or function.
    """
    module_name, colon, name = function.partition(":")
    if not colon or not name:
        raise ValueError(f"{function!r} is not written as package.module:function")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:
        raise ValueError(f"{function} fails when it is imported: {_described(error)}") from error
    if not callable(found):
        names = [each for each in dir(sys.modules[module_name]) if not each.startswith("_")]
        raise ValueError(f"{module_name} has no function {name!r}. {did_you_mean(name, names)}")
    called: Callable[..., Any] = found
    return called


def read_parameters(function: Callable[..., Any]) -> Parameters:
    """Read the parameters off a function.

    Example:
        >>> read_parameters(lambda task, sparsity=0.0: None)
        Parameters(names=('task', 'sparsity'), required=('task',), any=False)
    """
    found = inspect.signature(function).parameters.values()
    named = [each for each in found if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    return Parameters(
        tuple(each.name for each in named),
        tuple(each.name for each in named if each.default is each.empty),
        any(each.kind is each.VAR_KEYWORD for each in found),
    )


def _described(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({frames[-1].filename}, line {frames[-1].lineno})"


def main() -> None:
    """Print the parameters of the function that the first argument names."""
    try:
        line = MARK + json.dumps(read_parameters(find_function(sys.argv[1])))
    except ValueError as error:
        sys.exit(str(error))
    sys.stdout.write(f"\n{line}\n")


if __name__ == "__main__":
    main()
