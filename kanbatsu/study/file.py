"""Reading a study file: TOML to a study, with every mistake named at once."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kanbatsu.agents import AGENTS
from kanbatsu.envs.residual import ResidualConfig
from kanbatsu.files.tables import RecordError, did_you_mean, from_dict, merge, whole
from kanbatsu.remedies.reading import read_remedies
from kanbatsu.report.results import INCUMBENT
from kanbatsu.study.external import external_arm, is_external
from kanbatsu.study.incumbent import with_incumbent
from kanbatsu.study.match import Match, Unknowns, unknowns
from kanbatsu.study.overrides import lay_over
from kanbatsu.study.plan import Arm, Study
from kanbatsu.study.problems import study_problems
from kanbatsu.study.wording import read_wordings

Loaded = TypeVar("Loaded")

MOST_SEEDS = 100_000
"""Seeds that a number may stand for; a larger one is likely to be meant as a seed itself."""

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Safe in a file name on any system, and without the dot that separates an override's path."""


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file.

    Args:
        path: A TOML file.
        overrides: `KEY=VALUE` each, laid over the file in turn: `env_steps=2000`,
            `critic.width=64` (a default for all arms), `NAME.critic.width=64` (one arm), or
            `arm.critic.width=64` (every arm, whatever it says itself).

    Raises:
        RecordError: The file is no TOML, or what it says makes no study; one line per mistake.
        OSError: The file cannot be read.
    """

    def build(table: Mapping[str, Any]) -> Study:
        return study_from_dict(lay_over(table, overrides, _reserved()))

    return load(path, build)


def load(path: Path | str, build: Callable[[Mapping[str, Any]], Loaded]) -> Loaded:
    """Read a TOML file in UTF-8, with or without a byte-order mark, and build what it describes.

    Args:
        path: The file.
        build: Builds it from the file's table.

    Raises:
        RecordError: The file is no TOML, or `build` refuses it; each line begins with the path.
        OSError: The file cannot be read.
    """
    try:
        table = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not in UTF-8; save it in that encoding ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise RecordError(f"{path} is not valid TOML: {error}") from None
    try:
        return build(table)
    except RecordError as error:
        raise RecordError(
            "\n".join(f"{path}: {line}" for line in str(error).splitlines())
        ) from None


def study_from_dict(table: Mapping[str, Any]) -> Study:
    """Build a study from the table that a study file holds.

    Args:
        table: `question`, `tasks`, `env_steps`, `seeds` and `[arm.NAME]` tables must be there;
            `agent`, `control`, `note`, `[decision]` and `[text.LANGUAGE]` may; any other key is a
            default for all arms.

    Raises:
        RecordError: One line per mistake.

    Example:
        >>> arms = {"dense": {}, "sparse": {"critic": {"sparsity": 0.9}}}
        >>> table = {"question": "?", "tasks": ["gym/Pendulum-v1"], "env_steps": 100, "seeds": 2}
        >>> [run.run_id[:-9] for run in study_from_dict(table | {"arm": arms}).runs()][:2]
        ['dense_gym-Pendulum-v1_s0', 'sparse_gym-Pendulum-v1_s0']
    """
    named = {key: value for key, value in table.items() if key in _STUDY_KEYS}
    defaults = {key: value for key, value in table.items() if key not in _STUDY_KEYS}
    arms, seeds = named.pop("arm", {}), whole(named.get("seeds"))
    text = named.pop("text", {})
    problems = _arm_problems(arms, defaults, named.get("agent", "sac"))
    if "seeds" in named and type(seeds) not in (int, list, tuple):
        problems.append(
            f"seeds: must be how many there are, such as 5, or a list of them, not {seeds!r}"
        )
        named["seeds"] = [0]
    if type(seeds) is int:
        named["seeds"] = list(range(min(seeds, MOST_SEEDS)))
        if seeds > MOST_SEEDS:
            problems.append(f"seeds: {seeds} of them are too many; one seed is seeds = [{seeds}]")
    try:
        names = [*arms, INCUMBENT] if "incumbent" in table else arms
        wordings = read_wordings(text, names if isinstance(arms, Mapping) else ())
    except RecordError as error:
        problems.append(str(error))
    try:
        study = from_dict(Study, named)
    except RecordError as error:
        problems.append(str(error))
    if problems:
        raise RecordError("\n".join(problems))
    alone = all(is_external(defaults, arm) for arm in arms.values())
    shared = defaults if alone else {key: x for key, x in defaults.items() if key == "train"}
    read = {
        name: external_arm(name, shared, arm)
        if is_external(defaults, arm)
        else _arm(study.agent, _ours(defaults), arm, f"arm.{name}")
        for name, arm in arms.items()
    }
    study = with_incumbent(dataclasses.replace(study, arms=read, text=wordings))
    problems = list(study_problems(study))
    if problems:
        raise RecordError("\n".join(problems))
    return study


def _ours(defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the shared settings without the name of a training function."""
    return {key: x for key, x in defaults.items() if not (key == "train" and isinstance(x, str))}


def _names(record: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(record)}


_STUDY_KEYS = _names(Study) - {"arms"} | {"arm"}


def _settings(agent: str) -> set[str]:
    """Return the names of everything that an arm with this agent can set."""
    return _names(AGENTS[agent].config) | {"agent", "train", "match", "remedy", "residual"}


def _arm(agent: str, defaults: Mapping[str, Any], table: Mapping[str, Any], where: str) -> Arm:
    """Read one arm; of the shared settings, those that only another agent has drop out."""
    agent = table.get("agent", agent)
    wanted = _settings(agent) - ({"remedy"} & table.keys())  # its own are instead of shared ones
    shared = {key: value for key, value in defaults.items() if key in wanted}
    settings = merge(shared, {key: x for key, x in table.items() if key != "agent"})
    match, solved_for = _match(settings.pop("match", None), table, where)
    schedule = settings.pop("train", {})
    name = f"{where}.train".lstrip(".")
    refuse_foreign(agent, schedule, name)
    train: Any = from_dict(AGENTS[agent].schedule, schedule, name)
    remedy = read_remedies(settings.pop("remedy", ()), f"{where}.remedy".lstrip("."))
    residual = _residual(settings.pop("residual", False), f"{where}.residual".lstrip("."))
    config: Any = from_dict(AGENTS[agent].config, settings, where)
    return Arm(agent, config, train, match, solved_for, remedy=remedy, residual=residual)


def _residual(table: Any, where: str) -> ResidualConfig | None:
    """Read the rule that an arm corrects; `false` takes away the one that all arms share."""
    return None if table is False else from_dict(ResidualConfig, table, where)


def _match(asked: Any, table: Mapping[str, Any], where: str) -> tuple[Match | None, Unknowns]:
    """Read what an arm is to have as much of as another.

    Raises:
        RecordError: It is no match, or leaves nothing, or too much, to solve for.
    """
    if asked is None:
        return None, ()
    match = from_dict(Match, asked, f"{where}.match".lstrip("."))
    if match.what != "kept":
        return match, ()
    found, problems = unknowns(table)
    if problems:
        raise RecordError("\n".join(f"{where}.match: {problem}" for problem in problems))
    return match, found


def refuse_foreign(agent: str, schedule: Any, where: str) -> None:
    """Refuse settings of a schedule that are those of other agents.

    Raises:
        RecordError: One line per setting.

    Example:
        >>> refuse_foreign("stream_ac", {"batch_size": 32}, "train")
        Traceback (most recent call last):
        ...
        kanbatsu.files.tables.RecordError: train.batch_size: stream_ac learns from every sample \
once, without batch and replay; remove it, or set it in the arms of other agents alone
    """
    if not isinstance(schedule, Mapping):
        return
    own: Any = AGENTS[agent].schedule
    known, every = _names(own), set().union(*(_names(each.schedule) for each in AGENTS.values()))
    unfit = [name for name in schedule if name in every - known]
    if unfit:
        raise RecordError(
            "\n".join(
                f"{where}.{name}: {agent} learns from {own.samples}; remove it, or set it in the "
                "arms of other agents alone"
                for name in unfit
            )
        )


def _arm_problems(arms: Any, defaults: Mapping[str, Any], agent: Any) -> list[str]:
    """Say what is wrong with the arms and the settings that they share."""
    if not isinstance(arms, Mapping) or not arms:
        return ["a study needs at least one arm: add a table such as [arm.dense]"]
    problems = []
    agents = {"agent": agent}
    for name, arm in arms.items():
        where = f"arm.{name}"
        if not isinstance(arm, Mapping):
            problems.append(f"{where}: must be a table of settings, not {arm!r}")
            continue
        if name in _reserved() | {INCUMBENT}:
            problems.append(f"{where}: an arm cannot have the name of a setting; rename it")
        if not ARM_NAME.fullmatch(name):
            problems.append(
                f"arm.{name!r}: arms name files; use at most 64 letters, digits, '-' and '_'"
            )
        if is_external(defaults, arm):
            try:
                external_arm(name, {"train": defaults.get("train")}, arm)
            except RecordError as error:
                problems += str(error).splitlines()
            continue
        agents[f"{where}.agent"] = arm.get("agent", agent)
    is_unreadable = bool(problems)
    problems += [
        f"{where}: unknown agent {name!r}. {did_you_mean(str(name), AGENTS)}"
        for where, name in agents.items()
        if str(name) not in AGENTS and (where == "agent" or name != agent)
    ]
    # The rest is read as that of the agent that is probably meant: all mistakes are told at once.
    likely = {str(name): _nearest(str(name)) for name in agents.values()}
    external = {
        name
        for name, arm in arms.items()
        if isinstance(arm, Mapping) and is_external(defaults, arm)
    }
    if is_unreadable or "" in likely.values() or len(external) == len(arms):
        return problems
    arms = {
        name: {**arm, "agent": likely[str(arm.get("agent", agent))]}
        for name, arm in arms.items()
        if name not in external
    }
    agent = likely[str(agent)]
    defaults = _ours(defaults)
    used = {arm["agent"] for arm in arms.values()}
    shared = set().union(*map(_settings, used)) - {"agent"}
    problems += [
        f"{key}: unknown setting. {did_you_mean(key, shared.union(_STUDY_KEYS))}"
        for key in defaults
        if key not in shared
    ]
    known = {key: value for key, value in defaults.items() if key in shared}
    for name in sorted(used):
        problems += _problems_of(name, known, {}, "")
    for name, arm in arms.items():
        problems += _problems_of(agent, {}, arm, f"arm.{name}")
    return list(dict.fromkeys(problems))


def _nearest(name: str) -> str:
    """Return the agent of a name, or the one that it is nearly the name of; empty if none is."""
    return name if name in AGENTS else "".join(difflib.get_close_matches(name, AGENTS, 1))


def _problems_of(
    agent: str, defaults: Mapping[str, Any], table: Mapping[str, Any], where: str
) -> list[str]:
    try:
        _arm(agent, defaults, table, where)
    except RecordError as error:
        return str(error).splitlines()
    return []


def _reserved() -> set[str]:
    """Names that begin a setting's path, which an arm therefore cannot have."""
    return set().union(*map(_settings, AGENTS)).union(_STUDY_KEYS)
