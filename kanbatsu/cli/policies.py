"""The words for a policy that is to be used: `kanbatsu export`, `deploy` and `card`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import USAGE, refusing, say, say_error


@dataclass(frozen=True)
class ExportArguments:
    """Write the policy of a run, or of a saved model, as files that run without JAX and PyTorch."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_OR_MODEL")]
    """Folder of a run, OUT/runs/<run id>, whose newest checkpoint is taken; or the .zip that
    model.save of Stable-Baselines3 wrote. It holds pickles, and opening it runs the code in it:
    never open a stranger's."""
    to: Path
    """Folder of the policy."""
    normalize: Path | None = None
    """File of the VecNormalize that the model was trained with, which is frozen inside. It is a
    pickle as well."""
    algorithm: str | None = None
    """Class of the model, such as PPO; found in the file by default."""
    contract: Path | None = None
    """TOML file with what you know of the policy, such as action_units and licence."""
    low: float | None = None
    """Lowest value of every entry of an action; that of the run's environment by default."""
    high: float | None = None
    """Highest value likewise."""
    onnx: bool = False
    """Write policy.onnx too."""
    c: bool = False
    """Write policy.c too: one file of C99, for machines without Python."""
    tolerance: float = 1e-4
    """Largest difference from the original, in halves of an action's range."""
    key: Path | None = None
    """Key file to sign the policy with; that of KANBATSU_POLICY_KEY by default."""


@dataclass(frozen=True)
class CardArguments:
    """Write the model card of a run or of an exported policy, as the Hugging Face Hub reads it."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, OUT/runs/<run id>, or of an exported policy."""
    to: Path | None = None
    """File of the card; it is printed by default."""
    policy: Path | None = None
    """Folder of the policy that was exported from the run, for what it weighs."""
    licence: str | None = None
    """Identifier of the licence, such as mit; that of the policy's contract by default."""
    repo_id: str | None = None
    """Place on the Hub, such as user/walker, for the lines that load it."""
    key: Path | None = None
    """File with the key that signed the policy; the one of KANBATSU_POLICY_KEY by default."""


@dataclass(frozen=True)
class DiffArguments:
    """Say in what two policies differ: contracts, layers, kept weights, golden actions."""

    one: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="A")]
    """Folder of a policy."""
    other: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="B")]
    """Folder of the other policy."""
    key: Path | None = None
    """File with the key that signed both; the one that KANBATSU_POLICY_KEY names by default."""


def export(words: list[str]) -> int:
    """Write a policy, and say what was written and how far it is from the original."""
    given = parse(ExportArguments, words, "kanbatsu export")
    from kanbatsu.deploy.describe import describe

    with refusing_policies():
        source = _existing(given.source)
        if source.is_dir():
            _export_run(source, given)
        else:
            _export_model(source, given)
        lines = describe(given.to, key=given.key)
    for line in lines:
        say(line)
    return 0


def card(words: list[str]) -> int:
    """Write a model card, to a file or to the terminal."""
    given = parse(CardArguments, words, "kanbatsu card")
    from kanbatsu.hub import card as write

    with refusing_policies():
        text = write(
            _existing(given.source),
            policy=given.policy,
            licence=given.licence,
            repo_id=given.repo_id,
            key=given.key,
        )
        if given.to is not None:
            given.to.write_text(text, encoding="utf-8")
    if given.to is None:
        print(text, end="")  # noqa: T201
    return 0


def _export_run(folder: Path, given: ExportArguments) -> None:
    from kanbatsu.deploy import export as write
    from kanbatsu.files.tables import RecordError

    for name in ("normalize", "algorithm"):
        if getattr(given, name) is not None:
            raise RecordError(f"--{name} is of models that Stable-Baselines3 saved, not of runs")
    runs = sorted(path.name for path in folder.glob("runs/*") if (path / "config.json").exists())
    if runs:
        raise RecordError(
            f"{folder} is a study of {len(runs)} runs. Name one, such as "
            f"{folder / 'runs' / runs[0]}"
        )
    write(folder, given.to, low=given.low, high=given.high, **_options(given))


def _export_model(file: Path, given: ExportArguments) -> None:
    from kanbatsu.files.tables import RecordError

    if given.low is not None or given.high is not None:
        raise RecordError("--low and --high are of runs: a model knows the bounds of its actions")
    try:
        from kanbatsu.integrations.sb3 import export_policy
        from kanbatsu.integrations.sb3.opening import open_model, open_normaliser
    except ModuleNotFoundError as error:
        raise RecordError(str(error)) from None
    pickles = [file, *([] if given.normalize is None else [_existing(given.normalize)])]
    say(
        f"opening {' and '.join(map(str, pickles))}: pickles, which run the code in them; never "
        "open a stranger's"
    )
    model = open_model(file, given.algorithm)
    normaliser = None if given.normalize is None else open_normaliser(pickles[1], model)
    export_policy(model, given.to, normaliser=normaliser, **_options(given))


def _options(given: ExportArguments) -> dict[str, Any]:
    """Return what is the same for all kinds of policies."""
    from kanbatsu.deploy import Contract
    from kanbatsu.files.tables import from_dict

    table = {} if given.contract is None else tomllib.loads(_existing(given.contract).read_text())
    return {
        "contract": from_dict(Contract, table),
        "key": given.key,
        "tolerance": given.tolerance,
        "onnx": given.onnx,
        "c": given.c,
    }


def _existing(path: Path) -> Path:
    """Return a path that exists, with .zip where Stable-Baselines3 adds that.

    Raises:
        RecordError: it does not; the message names near matches.
    """
    from kanbatsu.files.tables import RecordError, did_you_mean

    both = (path, path.with_name(f"{path.name}.zip"))
    existing = next((candidate for candidate in both if candidate.exists()), None)
    if existing is not None:
        return existing
    beside = [other.name for other in path.parent.glob("*")]
    hint = did_you_mean(path.name, beside) if beside else ""
    raise RecordError(f"{path} does not exist. {hint}".strip())


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
