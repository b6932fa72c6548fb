"""Frozen dataclasses to plain tables and back, strictly: a mistake is named, never passed over."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import tomllib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


class RecordError(ValueError):
    """A table that does not describe what it should; the message has one line per mistake."""


ADDED: Mapping[str, Any] = {"added": True}
"""Metadata of a dataclass field that records leave out while it has its default.

Runs are named by a digest of their record. A setting that came after records were stored leaves the
names of all that do without it as they were, if its default does what was done before it came.
"""


def to_dict(record: Any) -> dict[str, Any]:
    """Return a dataclass as nested dicts and lists, as JSON and TOML know them.

    A field with the metadata `ADDED` is left out while it has its default.

    Example:
        >>> from kanbatsu.nn.config import NetworkConfig
        >>> to_dict(NetworkConfig(width=64))["width"]
        64
        >>> "rescale" in to_dict(NetworkConfig()), "rescale" in to_dict(NetworkConfig(rescale=True))
        (False, True)
    """
    values = ((item, getattr(record, item.name)) for item in dataclasses.fields(record))
    return {
        item.name: _plain(value)
        for item, value in values
        if not (item.metadata.get("added") and value == item.default)
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def from_dict(cls: type[Record], mapping: Mapping[str, Any], where: str = "") -> Record:
    """Build a dataclass from a table; what the table leaves out keeps the dataclass's default.

    A nested table starts from the default of its own field: `{"actor": {"sparsity": 0.5}}` leaves
    the actor's width as the agent sets it. An integer may stand for a float, a float that is whole
    (1e5) for an integer, and a boolean for neither.

    Args:
        cls: The dataclass.
        mapping: Its table, with nested tables for nested dataclasses.
        where: Name of the table in messages, such as `arm.dense`.

    Raises:
        RecordError: Unknown keys (with near matches), missing keys, and values of a wrong type.

    Example:
        >>> from kanbatsu.nn.config import NetworkConfig
        >>> from_dict(NetworkConfig, {"width": 64, "sparsity": 0}).sparsity
        0.0
        >>> from_dict(NetworkConfig, {"widht": 64}, where="critic")
        Traceback (most recent call last):
        ...
        kanbatsu.files.tables.RecordError: critic.widht: unknown setting. Did you mean 'width'?
    """
    problems: list[str] = []
    record = _read_table(cls, mapping, where, {}, problems)
    if problems:
        raise RecordError("\n".join(problems))
    return record


def merge(mapping: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another, table by table; neither is changed.

    Example:
        >>> merge({"critic": {"width": 64, "blocks": 2}}, {"critic": {"width": 128}})
        {'critic': {'width': 128, 'blocks': 2}}
    """
    merged = dict(mapping)
    for key, value in overrides.items():
        under = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(under, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Split `path.to.key=value` into its path and its value.

    The value is written as in TOML; a word that is no TOML value is taken as a string, so that a
    shell needs no second pair of quotes.

    Raises:
        RecordError: There is no `=`, or a part of the path is empty.

    Example:
        >>> parse_override("dense.critic.width=1_024")
        (('dense', 'critic', 'width'), 1024)
        >>> parse_override("agent=ddpg")
        (('agent',), 'ddpg')
    """
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise RecordError(
            f"{text!r} is not an override: write KEY=VALUE, such as critic.width=1024"
        )
    try:
        return path, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return path, value.strip()


def whole(value: Any) -> Any:
    """Return a float that is a whole number as an integer, and anything else as it is.

    People write `1e5` for 100,000, which TOML reads as a float. From 2^53 on not every whole number
    is a float, so that it might not be the one that was written.

    Example:
        >>> whole(1e5), whole(1.5), whole("8")
        (100000, 1.5, '8')
    """
    is_whole = type(value) is float and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value


def canonical_hash(value: Any) -> str:
    """Return the SHA-256, in hexadecimal, of a plain value written as canonical JSON.

    Example:
        >>> canonical_hash({"a": 1, "b": 2}) == canonical_hash({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the sentence that helps after an unknown name: near matches, or all there is.

    Example:
        >>> did_you_mean("widht", ["width", "blocks"])
        "Did you mean 'width'?"
        >>> did_you_mean("zzz", ["width", "blocks"])
        'Choose from: blocks, width.'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"Choose from: {', '.join(known)}."


def _read_table(
    cls: Any, value: Any, where: str, defaults: Mapping[str, Any], problems: list[str]
) -> Any:
    """Read one dataclass; `defaults` go before those of its fields."""
    if not isinstance(value, Mapping):
        problems.append(f"{where or cls.__name__}: must be a table of settings, not {value!r}")
        return None
    prefix = f"{where}." if where else ""
    hints = get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}
    before = len(problems)
    problems.extend(
        f"{prefix}{key}: unknown setting. {did_you_mean(str(key), fields)}"
        for key in value
        if key not in fields
    )
    arguments = dict(defaults)
    for name, item in fields.items():
        if name in value:
            inside = _fields_of(arguments[name] if name in arguments else _default(item))
            arguments[name] = _read(hints[name], value[name], prefix + name, inside, problems)
        elif name not in arguments and _default(item) is dataclasses.MISSING:
            problems.append(f"{prefix}{name}: must be given")
    return cls(**arguments) if len(problems) == before else None


def _read(
    hint: Any, value: Any, where: str, defaults: Mapping[str, Any], problems: list[str]
) -> Any:
    """Read one value as the annotation `hint` says; a mistake is added to `problems`."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        (hint,) = (member for member in get_args(hint) if member is not type(None))
    if dataclasses.is_dataclass(hint):
        return _read_table(hint, value, where, defaults, problems)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            problems.append(f"{where}: must be a list such as [...], not {value!r}")
            return None
        kind = get_args(hint)[0]
        return tuple(
            _read(kind, item, f"{where}[{at}]", {}, problems) for at, item in enumerate(value)
        )
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            problems.append(
                f"{where}: must be one of {', '.join(map(repr, choices))}, not {value!r}"
            )
        return value
    if hint is float and type(value) is int:
        value = float(value)
    elif hint is int:
        value = whole(value)
    if type(value) is not hint:
        problems.append(f"{where}: must be {_NAMES[hint]}, not {value!r}")
    elif hint is float and not math.isfinite(value):
        problems.append(f"{where}: must be a finite number, not {value!r}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _fields_of(default: Any) -> dict[str, Any]:
    """Return the values of a default that is a dataclass: what a nested table starts from."""
    if not dataclasses.is_dataclass(default) or isinstance(default, type):
        return {}
    return {item.name: getattr(default, item.name) for item in dataclasses.fields(default)}
