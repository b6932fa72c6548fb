"""How words of the command line become values, the same for every command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)

from kanbatsu.files.tables import whole

Arguments = TypeVar("Arguments")
_RULES = ConstructorRegistry()


def parse(form: Callable[..., Arguments], words: Sequence[str], prog: str) -> Arguments:
    """Read what a command was given.

    Args:
        form: Dataclass whose fields are the options, or function whose arguments are.
        words: What stands after the command.
        prog: Name of the command in its help.

    Example:
        >>> from kanbatsu.cli.training import StudyArguments
        >>> str(parse(StudyArguments, ["demo.toml", "--lang", "ja"], "kanbatsu study").file)
        'demo.toml'
    """
    return tyro.cli(form, args=words, prog=prog, registry=_RULES)


@_RULES.primitive_rule
def _whole_numbers(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if kind.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: read_whole(words[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


def read_whole(word: str) -> int:
    """Read a whole number as people write it.

    Raises:
        ValueError: It is none.

    Example:
        >>> read_whole("200_000"), read_whole("2e5")
        (200000, 200000)
    """
    try:
        return int(word)
    except ValueError:
        pass
    try:
        value = whole(float(word))
    except ValueError:
        value = word
    if type(value) is not int:
        raise ValueError("not a whole number, such as 200000, 200_000 or 2e5")
    return value
