"""Trainings of other libraries gathered into a study's folder, which every report can read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanbatsu.files.lock import StudyError
from kanbatsu.files.shape import reaches
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.files.tables import RecordError, canonical_hash, did_you_mean
from kanbatsu.report.language import LANGUAGES, texts
from kanbatsu.report.logs import Log, LogFiles, log_files, monitor_header

FULL = 0.95
"""Share of the longest training that counts as its whole length: the last episode may end early."""

NETWORKS = "networks.json"
"""File in a training's folder that may say how many weights each network keeps."""

EXTERNAL = "external"
"""Name of the algorithm of every training that kanbatsu did not carry out."""

CLEANRL = re.compile(r"(?P<task>.+)__(?P<experiment>.+)__(?P<seed>\d+)__\d+")
"""Name that CleanRL gives to a training's folder."""

RL_ZOO = re.compile(r"(?P<task>.+)_(?P<seed>\d+)")
"""Name that rl-zoo gives to a training's folder."""


@dataclass(frozen=True)
class Training:
    """One training of an arm."""

    arm: str
    task: str
    seed: int
    log: Log | None
    """Course of the training; None where no episode ended in it."""
    networks: Mapping[str, Mapping[str, Any]]
    """Weights `kept` and `total` of each network, as far as they are known."""


@dataclass(frozen=True)
class Asked:
    """What a gathered study is to say, beside its runs."""

    question: str | None = None
    """Question that the report answers."""
    control: str | None = None
    """Arm that the others are compared with; the first folder's by default."""
    task: str | None = None
    """Task of the trainings, where their logs do not name it."""
    decision: Mapping[str, Any] | None = None
    """Decision rule as a table."""
    command: str = ""
    """What a user types to get the study again."""


def gather(folders: Sequence[Path], out: Path, asked: Asked) -> Mapping[str, Any]:
    """Write the study of trainings that lie in a folder for each arm.

    In an arm's folder every subfolder, or log file with a name of its own, is one training. All of
    them are compared by the same kind of log, the best that all of them have.

    Args:
        folders: One for each arm, or one with a subfolder for each arm.
        out: Folder of the study, to be read by `kanbatsu.report.page.write_report`.
        asked: What is to be found out.

    Returns:
        What `study.json` holds.

    Raises:
        RecordError: The folders hold no trainings that can be compared; the message says why.
        StudyError: `out` holds a study that was not gathered.
    """
    arms = _arms(folders)
    if (control := asked.control or next(iter(arms))) not in arms:
        raise RecordError(f"no arm is called {control!r}. {did_you_mean(control, arms)}")
    kind = _kind(arms)
    trainings = [each for arm in arms for each in _trainings(arm, arms[arm], kind, asked)]
    ends = [each.log.env_steps for each in trainings if each.log is not None]
    if not ends or max(ends) < 1:
        raise RecordError(f"no training in {_listed(folders)} has logged an episode")
    env_steps = min(end for end in ends if end >= FULL * max(ends))
    return _write(trainings, StudyFolder(out), env_steps, control, kind, asked)


def _arms(folders: Sequence[Path]) -> dict[str, list[LogFiles]]:
    """Return the trainings of each arm, by the name of its folder."""
    for folder in folders:
        if not folder.is_dir():
            raise RecordError(f"{folder} is no folder: --monitor takes a folder for each arm")
    if len(folders) == 1:
        folders = sorted(path for path in folders[0].iterdir() if path.is_dir()) or folders
    names = [folder.resolve().name for folder in folders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecordError(f"two folders are called {twice[0]!r}: rename one, arms need own names")
    arms = {name: _of_arm(folder) for name, folder in zip(names, folders, strict=True)}
    if empty := [name for name, found in arms.items() if not found]:
        raise RecordError(
            f"{_listed(folders[names.index(name)] for name in empty)} holds no training: there is "
            "neither monitor.csv, nor evaluations.npz, nor an event file of TensorBoard in it"
        )
    return arms


def _of_arm(folder: Path) -> list[LogFiles]:
    """Return the trainings in an arm's folder: its subfolders, and files with own names."""
    whole = log_files(folder, [path for path in sorted(folder.iterdir()) if path.is_file()])
    inside = [log_files(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    found = [each for each in inside if each.kinds]
    if not whole.kinds:
        return found
    named = [path for path in (*whole.monitors, *whole.evaluations) if not _is_plain(path)]
    if found or not named:  # the logs of one training lie beside its checkpoints
        return found or [whole]
    files: dict[str, list[Path]] = {}
    for path in named:
        files.setdefault(path.name.partition(".")[0], []).append(path)
    return [log_files(folder, paths)._replace(name=name) for name, paths in files.items()]


def _is_plain(path: Path) -> bool:
    """Whether a file has the name that its writer gives to that of a training by itself."""
    return path.name in ("monitor.csv", "evaluations.npz")


def _kind(arms: Mapping[str, Sequence[LogFiles]]) -> str:
    """Return the best kind of log that every training has."""
    every = [(arm, files) for arm, found in arms.items() for files in found]
    first = every[0][1].kinds
    shared = [kind for kind in first if all(kind in files.kinds for _, files in every)]
    for kind in shared:
        if any(files.kinds[kind]() is not None for _, files in every):
            return kind
    told = "; ".join(f"{arm}/{files.name}: {', '.join(files.kinds)}" for arm, files in every[:4])
    raise RecordError(
        "the trainings have no kind of log in common, and returns of training and of evaluation "
        f"must not be compared: {told}"
    )


def _trainings(arm: str, found: Sequence[LogFiles], kind: str, asked: Asked) -> Iterable[Training]:
    names = [_name_of(files) for files in found]
    tasks = [
        asked.task or _task(files) or task or "task"
        for files, (task, _) in zip(found, names, strict=True)
    ]
    seeds = [seed for _, seed in names]
    pairs = list(zip(tasks, seeds, strict=True))
    if None in seeds or len(set(pairs)) < len(pairs):
        seeds = list(range(len(found)))
    for files, task, seed in zip(found, tasks, seeds, strict=True):
        assert seed is not None
        yield Training(arm, task, seed, files.kinds[kind](), _networks(files.folder))


def _name_of(files: LogFiles) -> tuple[str | None, int | None]:
    """Return the task and the seed that the name of a training's folder says."""
    for pattern in (CLEANRL, RL_ZOO):
        if match := pattern.fullmatch(files.name):
            named = match["task"] if pattern is CLEANRL else None
            return named and f"gym/{named}", int(match["seed"])
    last = re.search(r"(\d+)$", files.name)
    return None, int(last[1]) if last else None


def _task(files: LogFiles) -> str | None:
    """Return the task that Monitor's head names."""
    names = [monitor_header(path).get("env_id") for path in files.monitors]
    known = [name for name in names if isinstance(name, str) and name != "None"]
    return f"gym/{known[0]}" if known else None


def _networks(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    path = folder / NETWORKS
    if not path.exists():
        return {}
    try:
        return checked_networks(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from None


def checked_networks(networks: Any) -> dict[str, dict[str, int]]:
    """Return what says how many weights each network keeps, if that is what it says.

    Args:
        networks: Tables with `kept` and `total` by the name of the network.

    Raises:
        ValueError: It is something else.

    Example:
        >>> checked_networks({"actor": {"kept": 3, "total": 9}})
        {'actor': {'kept': 3, 'total': 9, 'parameters': 3}}
    """
    read: dict[str, dict[str, int]] = {}
    for name, counts in networks.items() if isinstance(networks, Mapping) else [("", None)]:
        kept, total = (
            (counts.get(key) if isinstance(counts, Mapping) else None) for key in ("kept", "total")
        )
        if type(kept) is not int or type(total) is not int or not 0 <= kept <= total:
            raise ValueError(
                'weights of networks are tables such as {"actor": {"kept": 300, "total": 1000}}, '
                f"in whole numbers with kept at most total, not {networks!r}"
            )
        read[str(name)] = {"kept": kept, "total": total, "parameters": kept}
    return read


def write_training(
    run: RunFolder, log: Log, networks: Mapping[str, Mapping[str, Any]], env_steps: int
) -> None:
    """Write the course of a training as the results of a run.

    Args:
        run: Folder of the run.
        log: Course of the training.
        networks: Weights of each network, as `checked_networks` returns them.
        env_steps: Env steps of a whole training.
    """
    if networks:
        run.append({"kind": "networks", "env_steps": 0, "networks": dict(networks)})
    for point in log.until(env_steps):
        mean = sum(point.returns) / len(point.returns)
        line = {"kind": "evaluation", "env_steps": point.env_steps}
        run.append({**line, "returns": list(point.returns), "mean_return": mean})
    if log.seconds:
        run.append_timing({"env_steps": log.env_steps, "seconds": log.seconds})


def _write(
    trainings: Sequence[Training],
    folder: StudyFolder,
    env_steps: int,
    control: str,
    kind: str,
    asked: Asked,
) -> Mapping[str, Any]:
    if folder.holds_study and "gathered" not in folder.read_study():
        raise StudyError(f"{folder.path} holds a study with runs of its own: name another folder")
    shutil.rmtree(folder.path / "runs", ignore_errors=True)  # of an earlier gathering
    arms: dict[str, dict[str, Any]] = {}
    for each in trainings:
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", f"{each.arm}_{each.task}_s{each.seed}")
        runs = arms.setdefault(each.arm, {"agent": EXTERNAL, "config": {}, "runs": {}})["runs"]
        runs.setdefault(each.task, {})[str(each.seed)] = plain
        run = folder.run_folder(plain)
        run.write_config({"task": each.task, "seed": each.seed, "env_steps": env_steps})
        if each.log is None:
            run.write_status("failed", "no episode ended in this training")
            continue
        write_training(run, each.log, each.networks, env_steps)
        if not reaches(run.metrics(), env_steps):
            end = f"{each.log.env_steps:,} of {env_steps:,}"
            run.write_status("failed", f"the log ends at {end} env steps")
        else:
            run.write_status("finished")
    tasks = sorted({each.task for each in trainings})
    decides = {
        "tasks": tasks,
        "seeds": sorted({each.seed for each in trainings}),
        "env_steps": env_steps,
        "arms": arms,
    }
    training = any(each.log is not None and each.log.training for each in trainings)
    of = "gathered.training" if training else "gathered.evaluations"
    notes = {lang: {"note": texts(lang)(of, kind=kind)} for lang in LANGUAGES}
    record = decides | {
        "question": asked.question or f"How do {_and(list(arms))} compare on {_and(tasks)}?",
        "note": notes["en"]["note"],
        "text": notes,
        "agent": EXTERNAL,
        "control": control,
        "decision": asked.decision,
        "command": asked.command,
        "hash": canonical_hash(decides)[:16],
        "gathered": True,
    }
    folder.write_study(record)
    return record


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _listed(folders: Iterable[Path]) -> str:
    return ", ".join(map(str, folders))
