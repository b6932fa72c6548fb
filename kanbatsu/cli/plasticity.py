"""`kanbatsu plasticity`: its options, and the lines that it prints."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kanbatsu.cli.parsing import parse
from kanbatsu.cli.saying import FAILED, USAGE, refusing, say, say_error


@dataclass(frozen=True)
class PlasticityArguments:
    """Train classifiers on tasks whose labels are drawn anew, and report; again continues."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.toml")]
    """A study file of the bench, in TOML; studies/plasticity-demo.toml is one."""
    overrides: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[KEY=VALUE ...]")
    ] = ()
    """Settings laid over the file: seeds=2; stream.tasks=3; classifier.width=64 (default of all
    arms); arm.NAME.classifier.width=64 (one arm)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for everything that the study writes; out/<name of the file> by default."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes that train arms at the same time; the cores are divided among them."""
    lang: Literal["en", "ja"] = "en"
    """Language of the report."""


def plasticity(words: list[str]) -> int:
    """Carry out a study of the bench; say what its matches came to and where its report is."""
    given = parse(PlasticityArguments, words, "kanbatsu plasticity")
    from kanbatsu.plasticity.bench import load_bench
    from kanbatsu.plasticity.carry import carry_out, missing

    if given.workers < 1:
        say_error(f"--workers must be at least 1, not {given.workers}")
        return USAGE
    out = given.out or Path("out") / given.file.stem
    command = ["kanbatsu", "plasticity", str(given.file), "--out", str(out), *given.overrides]
    with refusing():
        bench = load_bench(given.file, given.overrides)
        for line in bench.matches():
            say(line)
        page = carry_out(
            bench,
            out,
            workers=given.workers,
            command=shlex.join(command),
            lang=given.lang,
            say=say,
        )
        left = missing(out)
    say(f"report: {page}")
    if left:
        say_error(f"{left} runs are missing; the same command trains them")
    return FAILED if left else 0
