"""A policy's C file against its golden pairs: by a program inside of it, and by this machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.c_text import floats, integers, literal
from kanbatsu.deploy.golden import scale_of
from kanbatsu.deploy.layers import End
from kanbatsu.deploy.policy import bounds_of

FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
"""Options that a file compiles with."""
TYPES = {"float": np.float32, "int32_t": np.int32, "uint8_t": np.uint8}


def self_test(contract: Mapping[str, Any], end: End, given: str, taken: str) -> str:
    """Return the program that a file is where `KANBATSU_MAIN` is defined.

    Args:
        contract: with the golden pairs.
        end: last layer of the policy.
        given: type of an entry of an observation.
        taken: type of an entry of an action.
    """
    golden = contract["golden"]
    observations = np.array(golden["observations"], np.float32)
    actions = np.array(golden["actions"], np.float32)
    write = floats if given == "float" else integers
    scale = scale_of(actions, *bounds_of(end))
    pairs = len(observations)
    lines = f"""\
int main(void) {{
  float worst = 0.0f;
  for (int32_t pair = 0; pair < {pairs}; ++pair) {{
    static {given} observation[KANBATSU_OBSERVATION];
    {taken} action[KANBATSU_ACTION];
    for (int32_t i = 0; i < KANBATSU_OBSERVATION; ++i) {{
      observation[i] = ({given})golden_observations[pair * KANBATSU_OBSERVATION + i];
    }}
    KANBATSU_ACT(observation, action);
    for (int32_t i = 0; i < KANBATSU_ACTION; ++i) {{
      float error = (float)action[i] - golden_actions[pair * KANBATSU_ACTION + i];
      error = (error < 0.0f ? -error : error) / golden_scale[i];
      if (!(error <= worst)) worst = error;
    }}
  }}
  printf("%ld billionths of half an action's range is the largest difference\\n",
         (long)(worst * 1e9f));
  return worst <= {literal(golden["tolerance"])} ? 0 : 1;
}}"""
    return "\n\n".join(
        [
            "#ifdef KANBATSU_MAIN\n#include <stdio.h>",
            write("golden_observations", observations.astype(TYPES[given])),
            floats("golden_actions", actions),
            floats("golden_scale", scale),
            lines,
            "#endif",
        ]
    )


def compiler() -> str | None:
    """Return the path of this machine's C compiler; None where it has none."""
    return shutil.which("cc")


def run_c(source: str, observations: np.ndarray, action_dim: int, given: str, taken: str) -> Any:
    """Compile a file with this machine's compiler and compute its actions.

    Args:
        source: what `to_c` returned.
        observations: float32 `[pairs, obs_dim]`.
        action_dim: length of an action.
        given: type of an entry of an observation in C.
        taken: type of an entry of an action in C.

    Returns:
        `[pairs, action_dim]`; None where there is no compiler.

    Raises:
        RuntimeError: the file does not compile.
    """
    path = compiler()
    if path is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        file, library = Path(scratch) / "policy.c", Path(scratch) / "policy.so"
        file.write_text(source)
        words = [path, *FLAGS, "-shared", "-fPIC", str(file), "-o", str(library), "-lm"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"policy.c does not compile with {path}:\n{done.stderr}")
        act = ctypes.CDLL(str(library)).kanbatsu_act
        act.argtypes, act.restype = (ctypes.c_void_p, ctypes.c_void_p), None
        actions = np.empty((len(observations), action_dim), TYPES[taken])
        rows = np.ascontiguousarray(observations.astype(TYPES[given]))
        for row, action in zip(rows, actions, strict=True):
            act(row.ctypes.data, action.ctypes.data)
    return actions
