"""The file of a proof of concept: what is asked, who takes part, what there is, when it ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kanbatsu.files.tables import RecordError, from_dict, merge, whole
from kanbatsu.report.results import INCUMBENT
from kanbatsu.run.external import ExternalConfig
from kanbatsu.study.external import is_external
from kanbatsu.study.file import load, study_from_dict
from kanbatsu.study.plan import Arm, Study
from kanbatsu.study.rule import DecisionRule

SEEDS = 2_000
"""Seeds that belong to one value of `seed`; the search takes those of the second half."""


@dataclass(frozen=True)
class Search:
    """Which arms are tried, and with how many seeds."""

    network: Literal["actor", "critic"] = "critic"
    """The network that widths and sparsities are tried for."""
    widths: tuple[int, ...] = ()
    """Widths to try; the control's by default."""
    sparsities: tuple[float, ...] = ()
    """Shares of its weights to remove."""
    match: Literal["kept", "flops"] | None = None
    """What candidates have as much of as the control: kept weights (their sparsity follows from
    their width), or operations."""
    seeds: int = 2
    """Seeds of each candidate in the first round; twice as many after each for those that go on."""
    finalists: int = 1
    """Arms that are compared with the control on fresh seeds."""
    env_steps: int | None = None
    """Env steps of the search's runs; those of the confirmation by default."""


@dataclass(frozen=True)
class Confirmation:
    """The comparison that the verdict is taken from."""

    seeds: int = 5
    """Fresh seeds of each arm on each task."""


@dataclass(frozen=True)
class Budget:
    """Time and workers available."""

    hours: float
    """Hours for all stages together."""
    workers: int | None = None
    """Runs at the same time; as many as cores by default."""


@dataclass(frozen=True)
class Stop:
    """Conditions that end a proof of concept early, beside the hours."""

    hopeless: bool = True
    """Flag that ends it after the search if even the best candidate's interval lies below the
    threshold."""


@dataclass(frozen=True)
class Poc:
    """A proof of concept."""

    study: Study
    """All arms, with every candidate; its seeds are those of the confirmation."""
    rule: DecisionRule
    search: Search
    confirm: Confirmation
    budget: Budget
    stop: Stop
    seed: int
    """Number that decides every seed of every stage."""

    @property
    def control(self) -> str:
        """The arm to beat."""
        assert self.study.control is not None
        return self.rule.control or self.study.control

    @property
    def candidates(self) -> list[str]:
        """Names of the arms that may be adopted."""
        names = self.rule.arms or self.study.arms
        others = {self.control, INCUMBENT}
        return [name for name in self.study.arms if name in names and name not in others]

    @property
    def first_search_seed(self) -> int:
        """The first seed of the search; no seed of the confirmation is as high."""
        return SEEDS * self.seed + SEEDS // 2


def load_poc(path: Path) -> Poc:
    """Read the file of a proof of concept.

    Raises:
        RecordError: What it says makes no plan; one line per mistake.
        OSError: The file cannot be read.
    """
    return load(path, poc_from_dict)


def poc_from_dict(table: Mapping[str, Any]) -> Poc:
    """Build a plan from the table that its file holds.

    Args:
        table: Table of a study file without `seeds`, and `[search]`, `[confirm]`, `[budget]`,
            `[stop]`, `[decision]` and `seed`.

    Raises:
        RecordError: One line per mistake.
    """
    parts = {"search": Search, "confirm": Confirmation, "budget": Budget, "stop": Stop}
    problems: list[str] = []
    read: dict[str, Any] = {}
    for name, kind in parts.items():
        try:
            read[name] = from_dict(kind, table.get(name, {}), name)
        except RecordError as error:
            problems.append(str(error))
    seed = whole(table.get("seed", 0))
    if type(seed) is not int or seed < 0:
        problems.append(f"seed: must be a whole number of 0 or more, not {seed!r}")
    if "seeds" in table:
        problems.append("seeds: belong to [search] and [confirm]; there are none at the top")
    if problems:
        raise RecordError("\n".join(problems))
    problems = _number_problems(read["search"], read["confirm"], read["budget"])
    header = {key: value for key, value in table.items() if key not in (*parts, "seed")}
    header.setdefault("decision", {})
    try:
        header["arm"] = _arms(header, read["search"])
        first = SEEDS * seed
        header["seeds"] = list(range(first, first + max(read["confirm"].seeds, 1)))
        study = study_from_dict(header)
        if same := _like_control(study, set(header["arm"]) - set(table.get("arm", {}))):
            arms = {name: arm for name, arm in header["arm"].items() if name not in same}
            study = study_from_dict(header | {"arm": arms})
    except RecordError as error:
        raise RecordError("\n".join([*problems, str(error)])) from None
    rule = study.decision
    assert rule is not None
    if read["confirm"].seeds < rule.seeds:
        problems.append(
            f"confirm.seeds: {read['confirm'].seeds} are fewer than decision.seeds = {rule.seeds}, "
            "so that nothing could ever be adopted; raise it"
        )
    problems += [
        f'arm.{name}.match.what: "time" needs a measurement, which kanbatsu poc does not take; '
        'use "kept" or "flops"'
        for name, arm in study.arms.items()
        if arm.match is not None and arm.match.what == "time"
    ]
    if problems:
        raise RecordError("\n".join(problems))
    return Poc(study, rule, seed=seed, **read)


def _number_problems(search: Search, confirm: Confirmation, budget: Budget) -> list[str]:
    problems = []
    if not budget.hours > 0:
        problems.append(f"budget.hours: must be greater than 0, not {budget.hours:g}")
    if budget.workers is not None and budget.workers < 1:
        problems.append(f"budget.workers: must be at least 1, not {budget.workers}")
    for name, value in (("seeds", search.seeds), ("finalists", search.finalists)):
        if value < 1:
            problems.append(f"search.{name}: must be at least 1, not {value}")
    if search.env_steps is not None and search.env_steps < 1:
        problems.append(f"search.env_steps: must be at least 1, not {search.env_steps}")
    if confirm.seeds < 1:
        problems.append(f"confirm.seeds: must be at least 1, not {confirm.seeds}")
    if search.match == "kept" and search.sparsities:
        problems.append('search.sparsities: are solved for where match = "kept"; remove them')
    return problems


def _arms(header: Mapping[str, Any], search: Search) -> dict[str, Any]:
    """Return the file's own arms and one for each width and sparsity to try.

    One of them may be the control itself, which is seen once the agent's defaults are filled in.

    Raises:
        RecordError: There is no control to begin from.
    """
    arms = header.get("arm", {})
    name = header.get("control")
    if not isinstance(arms, Mapping) or name not in arms or not isinstance(arms[name], Mapping):
        raise RecordError('control: name one of the arms, such as control = "dense"')
    if external := is_external(header, arms[name]):
        if search.match is not None:
            raise RecordError(
                "search.match: cannot be solved for trainings by a function of yours; give "
                "search.sparsities, which it gets as its parameter sparsity"
            )
        shared, own = {}, {**header, **arms[name]}
    else:
        shared = {key: header[key] for key in ("actor", "critic") if key in header}
        own = merge(shared, arms[name]).get(search.network, {})
    candidates = dict(arms)
    width = own.get("width") if isinstance(own, Mapping) else None
    match = {} if search.match is None else {"match": {"to": name, "what": search.match}}
    for each in search.widths or ((width,) if search.sparsities else ()):
        for sparsity in search.sparsities or ((None,) if search.match == "kept" else (0.0,)):
            network = {} if each is None else {"width": each}
            label = [f"{each}"] if each is not None else []
            if sparsity is not None:
                network["sparsity"] = sparsity
                label.append(f"s{100 * sparsity:g}".replace(".", "p"))
            else:
                label.append(search.match or "")
            arm = merge(arms[name], network if external else {search.network: network})
            if sparsity is None:
                arm[search.network] = {
                    key: x for key, x in arm[search.network].items() if key != "sparsity"
                }
            prefix = "pruned" if external else search.network
            candidates.setdefault(f"{prefix}-{'-'.join(label)}", arm | match)
    return candidates


def _like_control(study: Study, candidates: Collection[str]) -> set[str]:
    """Return the candidates that are the control itself, once all defaults are filled in."""
    assert study.control is not None
    assert study.decision is not None
    controls = {study.control, study.decision.control or study.control}
    return {
        name
        for name in candidates
        if any(_alike(study.arms[name], study.arms[control]) for control in controls)
    }


def _alike(arm: Arm, control: Arm) -> bool:
    """Return whether two arms are one, where a match solves for what the control has."""
    if arm.agent != control.agent:
        return False
    config: Any = arm.config
    if isinstance(config, ExternalConfig) and isinstance(control.config, ExternalConfig):
        config = dataclasses.replace(config, arm=control.config.arm)
    for network, unknown in arm.unknowns:
        value = getattr(getattr(control.config, network), unknown)
        changed = dataclasses.replace(getattr(config, network), **{unknown: value})
        config = dataclasses.replace(config, **{network: changed})
    return (config, arm.train) == (control.config, control.train)
