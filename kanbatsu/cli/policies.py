"""The words for a policy that is to be used: `kanbatsu export` and `kanbatsu deploy`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import USAGE, refusing, say, say_error


@dataclass(frozen=True)
class DiffArguments:
    """Say in what two policies differ: contracts, layers, kept weights, golden actions."""

    one: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="A")]
    """Folder of a policy."""
    other: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="B")]
    """Folder of the other policy."""
    key: Path | None = None
    """File with the key that signed both; the one that KANBATSU_POLICY_KEY names by default."""


def deploy(words: list[str]) -> int:
    """Compare two policies; the exit code is 1 where they differ, as that of diff."""
    if words[:1] != ["diff"]:
        from kanbatsu.files.tables import did_you_mean

        if words[:1] in ([], ["-h"], ["--help"]):
            say("usage: kanbatsu deploy diff A B\n\nSay in what two policies differ.")
            return USAGE if not words else 0
        say_error(f"unknown command 'deploy {words[0]}'. {did_you_mean(words[0], ['diff'])}")
        return USAGE
    given = parse(DiffArguments, words[1:], "kanbatsu deploy diff")
    from kanbatsu.deploy.difference import differences

    with refusing_policies():
        lines = differences(given.one, given.other, key=given.key)
    for line in lines or ["no difference: they are one policy"]:
        say(line)
    return 1 if lines else 0


@contextmanager
def refusing_policies() -> Iterator[None]:
    """Turn what is wrong with a policy into one message and exit code 2, as `refusing` does."""
    from kanbatsu.files.tables import RecordError

    with refusing():
        try:
            yield
        except tomllib.TOMLDecodeError as error:
            raise RecordError(f"the contract is not valid TOML ({error})") from None
        except ValueError as error:
            raise RecordError(str(error)) from None
