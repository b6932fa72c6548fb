"""The shapes of stored JSON, checked when a file is read, and what a run or study says by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Each:
    """A table with any names."""

    of: Any
    """Shape of every value."""


@dataclass(frozen=True)
class Maybe:
    """A value that may be null or absent."""

    of: Any
    """Shape of the value where it is there."""


NOTHING = type(None)
NUMBER = (int, float, NOTHING)
"""A number, or null for one that was not finite."""

CONFIG = {"env_steps": int}
STATUS = {"state": str, "error": Maybe(str)}
PICTURES = {
    "pictures": [
        {
            "arm": str,
            "task": str,
            "seed": int,
            "return": NUMBER,
            "interactions": int,
            "image": str,
        }
    ]
}
STUDY = {
    "question": str,
    "tasks": [str],
    "seeds": [int],
    "env_steps": int,
    "note": Maybe(str),
    "control": Maybe(str),
    "decision": Maybe(dict),
    "command": Maybe(str),
    "cost": Maybe(dict),
    "measures": Maybe([str]),
    "text": Maybe(
        Each({"question": Maybe(str), "note": Maybe(str), "arm": Maybe(Each(str))}),
    ),
    "arms": Each(
        {
            "agent": str,
            "config": dict,
            "train": Maybe(dict),
            "match": Maybe({"to": str, "what": str}),
            "solved": Maybe(Each({"env_steps": int, "config": dict, "says": str})),
            "runs": Each(Each(str)),
        }
    ),
}
LINE = {"kind": str, "env_steps": int}
LINES: Mapping[str, Any] = {
    "evaluation": {
        "mean_return": NUMBER,
        "flops": Maybe(NUMBER),
        "measures": Maybe(Each([(int, float)])),
    },
    "episode": {"return": NUMBER},
    "probe": {"metrics": Each(NUMBER)},
    "update": {"metrics": Each(NUMBER)},
    "networks": {"networks": Each({"kept": int, "total": int}), "flops_per_update": Maybe(dict)},
}
"""Shapes of the lines of `metrics.jsonl`, by kind; lines of other kinds may hold anything."""
TIMES = Each(NUMBER)
"""Shape of the lines of `timing.jsonl`."""


def misfit(value: Any, shape: Any, name: str = "") -> str | None:
    """Say in what a value is not of a shape.

    Args:
        value: Value as JSON has it.
        shape: A type, a tuple of types, a list with the shape of every item, a table with the shape
            of each value that must be there, `Each` or `Maybe`.
        name: Name of the value in the answer; none for a whole file.

    Returns:
        None where the value fits.

    Example:
        >>> misfit({"seeds": [1, "2"]}, {"seeds": [int]})
        'seeds[1] is a string'
        >>> misfit({}, {"seeds": [int], "note": Maybe(str)})
        'seeds is missing'
    """
    if isinstance(shape, Maybe):
        return None if value is None else misfit(value, shape.of, name)
    if isinstance(shape, type | tuple):
        kinds = shape if isinstance(shape, tuple) else (shape,)
    else:
        kinds = (list,) if isinstance(shape, list) else (dict,)
    if type(value) not in kinds:
        return f"{name or 'it'} is {_NAMES[type(value)]}"
    prefix = f"{name}." if name else ""
    if isinstance(shape, list):
        parts = [(item, shape[0], f"{name}[{place}]") for place, item in enumerate(value)]
    elif isinstance(shape, Each):
        parts = [(item, shape.of, prefix + key) for key, item in value.items()]
    elif isinstance(shape, dict):
        missing = [key for key, of in shape.items() if key not in value and type(of) is not Maybe]
        if missing:
            return f"{prefix}{missing[0]} is missing"
        parts = [(value[key], of, prefix + key) for key, of in shape.items() if key in value]
    else:
        return None
    return next((text for part in parts if (text := misfit(*part)) is not None), None)


_NAMES = {
    NOTHING: "null",
    bool: "a truth value",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a table",
}


def line_misfit(line: Any) -> str | None:
    """Return what is wrong with a line of `metrics.jsonl`; None where nothing is.

    Example:
        >>> line_misfit({"kind": "evaluation", "env_steps": 5})
        'mean_return is missing'
    """
    return misfit(line, LINE) or misfit(line, LINES.get(line["kind"], {}))


def ends_at(study: Mapping[str, Any], arm: Mapping[str, Any], task: str) -> int:
    """Return the env steps of an arm's runs on a task: the study's, or what its match came to.

    Args:
        study: What `study.json` holds.
        arm: The arm's entry in it.
        task: One of the study's.

    Example:
        >>> ends_at({"env_steps": 100}, {"solved": {"a": {"env_steps": 130}}}, "a")
        130
    """
    solved = arm.get("solved") or {}
    steps: int = solved[task]["env_steps"] if task in solved else study["env_steps"]
    return steps


def reaches(metrics: Sequence[Mapping[str, Any]], env_steps: int) -> bool:
    """Return whether the last evaluation in `metrics` is at the end of a run of `env_steps`.

    Example:
        >>> reaches([{"kind": "evaluation", "env_steps": 500}], env_steps=1000)
        False
    """
    evaluated = [record["env_steps"] for record in metrics if record["kind"] == "evaluation"]
    return bool(evaluated) and evaluated[-1] >= env_steps
