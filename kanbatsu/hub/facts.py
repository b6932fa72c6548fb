"""What is known of a policy that is to be shared, from the files of its run, study and export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kanbatsu.deploy.bundle import read_bundle
from kanbatsu.deploy.contract import CONTRACT
from kanbatsu.deploy.difference import kept
from kanbatsu.deploy.files import read
from kanbatsu.deploy.layers import Product
from kanbatsu.deploy.seal import Key
from kanbatsu.files.disk import read_json
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.report.counted import counted
from kanbatsu.report.first import FirstPage, first_page
from kanbatsu.report.language import texts
from kanbatsu.report.results import read_study


@dataclass(frozen=True)
class Arm:
    """The arm of a study that a run belongs to, on the run's task."""

    name: str
    """Name of the arm."""
    returns: Mapping[str, float]
    """Final returns by seed."""
    iqm: float | None
    """Interquartile mean of them."""
    interval: tuple[float, float] | None
    """Its 95 % interval; None of one seed alone."""
    flops: Mapping[str, int | None]
    """Operations of an update, `dense` and `sparse`."""


@dataclass(frozen=True)
class Facts:
    """What a card says."""

    task: str
    """Task that the policy was trained on."""
    agent: str
    """Name of the algorithm, or of what the policy was exported from."""
    run_id: str | None = None
    """Name of the run."""
    seed: int | None = None
    """Seed of the run."""
    env_steps: int | None = None
    """Env steps of the run at its last evaluation."""
    returns: Sequence[float] = ()
    """Returns of the episodes of the run's last evaluation."""
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Counts of each network: `kept` and `total`."""
    arm: Arm | None = None
    """Arm of the study, where the run is of one."""
    question: str | None = None
    """Question of the study."""
    verdict: FirstPage | None = None
    """Verdict of the study in words, where it has a rule."""
    judged: tuple[str, str] | None = None
    """Arm and control that the verdict compares."""
    machine: Mapping[str, Any] | None = None
    """Machine that trained."""
    contract: Mapping[str, Any] | None = None
    """Contract of the exported policy."""
    weights: tuple[int, int] | None = None
    """Weights that the exported policy keeps, and those that it could have."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the files of the exported policy."""


def facts_of(
    run: Path | None = None, policy: Path | None = None, *, key: Key | None = None
) -> Facts:
    """Gather what is known, from a run's folder, from a policy's, or from both.

    Args:
        run: folder of a run, OUT/runs/<run id>; what OUT knows of its study is read too.
        policy: folder of a policy that was exported.
        key: path of the key file that it was signed with.

    Raises:
        FileNotFoundError: a folder holds no run, or no policy.
        DamagedFile, PolicyError: a file is not what was written.
    """
    exported: dict[str, Any] = {}
    if policy is not None:
        layers, contract = read(policy, key)
        weights = [layer for layer in layers if isinstance(layer, Product)]
        _, files = read_bundle(policy, key)
        exported = {
            "contract": contract,
            "weights": (
                sum(map(kept, weights)),
                sum(layer.inputs * layer.outputs for layer in weights),
            ),
            "sizes": {name: len(content) for name, content in sorted(files.items())}
            | {CONTRACT: (policy / CONTRACT).stat().st_size},
        }
    if run is None:
        contract = exported["contract"]
        task = str(contract["environment"].get("task") or "an unnamed task")
        made_by = str(contract["golden"]["compared_with"])
        return Facts(task, made_by, contract["provenance"]["run_id"], **exported)
    files_of_run = RunFolder(run)
    if not (run / "config.json").exists():
        raise FileNotFoundError(
            f"{run} is not the folder of a run: config.json is missing. Name OUT/runs/<run id>"
        )
    record, metrics = files_of_run.read_config(), files_of_run.metrics()
    evaluations = [line for line in metrics if line["kind"] == "evaluation"]
    last: Mapping[str, Any] = evaluations[-1] if evaluations else {}
    return Facts(
        task=record["task"],
        agent=record["agent"],
        run_id=run.resolve().name,
        seed=record["seed"],
        env_steps=last.get("env_steps"),
        returns=[value for value in last.get("returns") or () if value is not None],
        networks=counted(metrics).networks,
        machine=files_of_run.machine(),
        **_of_study(run.resolve(), record),
        **exported,
    )


def _of_study(run: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the study of a run says of it; nothing where it is of none, or has no summary yet."""
    folder = StudyFolder(run.parent.parent)
    summary_file = folder.path / "summary.json"
    if run.parent.name != "runs" or not folder.holds_study or not summary_file.exists():
        return {}
    study = read_study(folder.path)
    name = next((x.arm for x in study.runs if x.run_id == run.name), None)
    if name is None:
        return {}
    summary = read_json(summary_file)
    arm = next(x for x in summary["arms"] if x["name"] == name)
    on_task = arm["tasks"][record["task"]]
    interval = on_task["interval"]
    known: dict[str, Any] = {
        "question": summary["question"],
        "arm": Arm(
            name,
            on_task["returns"],
            on_task["iqm"],
            None if interval is None else tuple(interval),
            arm["flops_per_update"],
        ),
    }
    verdict, timing_file = summary["verdict"], folder.path / "timing.json"
    if verdict is None or not timing_file.exists():
        return known
    titles = (study.text.get("en") or {}).get("arm")
    words = first_page(verdict, summary, read_json(timing_file), texts("en"), titles, study.cost)
    return known | {"verdict": words, "judged": (verdict["arm"], verdict["control"])}
