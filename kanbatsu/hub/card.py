"""The model card of a policy: what the Hub reads at its head, and what people read below."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.deploy.contract import CONTRACT
from kanbatsu.deploy.seal import Key
from kanbatsu.hub.facts import Facts, facts_of

LIBRARY = "kanbatsu"
TAGS = ("reinforcement-learning", "deep-reinforcement-learning", LIBRARY, "pruning", "sparsity")
"""Tags of every card; the task's own name comes after them."""
TASK = "reinforcement-learning"
"""Word of the Hub for what the policy does."""


def card(
    run: str | os.PathLike[str],
    *,
    policy: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    repo_id: str | None = None,
    key: Key | None = None,
) -> str:
    """Write the model card of a run or of an exported policy, from their files alone.

    Args:
        run: folder of a run, OUT/runs/<run id>; or that of an exported policy, from whatever
            library.
        policy: folder of the policy that was exported from the run, if it was.
        licence: identifier of the licence, such as `mit`; that of the policy's contract by default.
        repo_id: place on the Hub, such as `user/walker`, for the lines that load it.
        key: path of the key file that the policy was signed with.

    Returns:
        Markdown with a head of YAML that the Hub reads: tags, library, licence and results.

    Raises:
        FileNotFoundError: the folder holds neither a run nor a policy.
    """
    folder = Path(run)
    exported = None if policy is None else Path(policy)
    if (folder / CONTRACT).exists() and exported is None:
        facts = facts_of(policy=folder, key=key)
    else:
        facts = facts_of(folder, exported, key=key)
    stated = (facts.contract or {}).get("provenance", {}).get("licence")
    return "\n".join([*_head(facts, licence or stated), "", *_body(facts, repo_id)]) + "\n"


def _head(facts: Facts, licence: str | None) -> Iterator[str]:
    """The YAML that the Hub reads: JSON values are YAML values."""
    yield "---"
    if licence:
        yield f"license: {json.dumps(licence.lower())}"
    yield f"library_name: {LIBRARY}"
    yield f"pipeline_tag: {TASK}"
    yield "tags:"
    yield from (f"- {json.dumps(tag)}" for tag in (*TAGS, facts.task))
    metrics = list(_metrics(facts))
    if metrics:
        yield "model-index:"
        yield f"- name: {json.dumps(facts.run_id or facts.agent)}"
        yield "  results:"
        yield "  - task:"
        yield f"      type: {TASK}"
        yield f"      name: {TASK}"
        yield "    dataset:"
        yield f"      type: {json.dumps(facts.task)}"
        yield f"      name: {json.dumps(facts.task)}"
        yield "    metrics:"
        for kind, name, value in metrics:
            yield f"    - type: {kind}"
            yield f"      name: {json.dumps(name)}"
            yield f"      value: {json.dumps(value)}"
            yield "      verified: false"
    yield "---"


def _metrics(facts: Facts) -> Iterator[tuple[str, str, Any]]:
    """Kind, name and value of each result."""
    if len(facts.returns):
        mean, spread = np.mean(facts.returns), np.std(facts.returns)
        yield "mean_reward", "mean_reward", f"{mean:.2f} +/- {spread:.2f}"
    arm = facts.arm
    if arm is not None and arm.iqm is not None and len(arm.returns) > 1:
        name = f"IQM of final returns over {len(arm.returns)} seeds"
        yield "iqm_return", name, round(arm.iqm, 2)


def _body(facts: Facts, repo_id: str | None) -> Iterator[str]:
    yield f"# {facts.agent} on {facts.task}, pruned at random before training"
    yield ""
    yield (
        "A policy trained with [kanbatsu](https://pypi.org/project/kanbatsu/), which removes a "
        "fixed share of a network's weights once, at random, before training, and keeps them "
        "removed."
        if _is_pruned(facts)
        else "A policy written by [kanbatsu](https://pypi.org/project/kanbatsu/). Its networks are "
        "dense."
    )
    for title, lines in (
        ("Verdict", _verdict(facts)),
        ("Returns", _returns(facts)),
        ("Kept weights", _weights(facts)),
        ("Speed and size", _speed(facts)),
        ("Use", _use(facts, repo_id)),
        ("Limits", _limits(facts)),
        ("Provenance", _provenance(facts)),
    ):
        text = list(lines)
        if text:
            yield from ("", f"## {title}", "", *text)


def _is_pruned(facts: Facts) -> bool:
    counts = [(network["kept"], network["total"]) for network in facts.networks.values()]
    return any(kept < total for kept, total in counts + ([facts.weights] if facts.weights else []))


def _verdict(facts: Facts) -> Iterator[str]:
    words, judged, arm = facts.verdict, facts.judged, facts.arm
    if words is None or judged is None or arm is None:
        yield "There is none: no study with a decision rule stands behind this policy."
        return
    yield f"**{words.title}** {words.answer}"
    yield ""
    yield f"{words.asked}"
    yield ""
    yield from (f"- {name}: {text}" for name, text in words.lines)
    if arm.name != judged[0]:
        yield ""
        side = "the control" if arm.name == judged[1] else "neither of the two"
        yield f"This policy is of the arm {arm.name}, which is {side}."


def _returns(facts: Facts) -> Iterator[str]:
    if len(facts.returns):
        mean, spread = np.mean(facts.returns), np.std(facts.returns)
        yield (
            f"This run (seed {facts.seed}), at {facts.env_steps:,} env steps: mean {mean:.2f}, "
            f"standard deviation {spread:.2f}, over {len(facts.returns)} greedy episodes."
        )
    arm = facts.arm
    if arm is None or arm.iqm is None:
        return
    yield ""
    seeds = len(arm.returns)
    listed = ", ".join(f"{value:.2f}" for value in arm.returns.values())
    between = (
        "one seed gives no interval"
        if arm.interval is None or arm.interval[0] is None
        else f"95 % interval {arm.interval[0]:.2f} to {arm.interval[1]:.2f}"
    )
    yield (
        f"All {seeds} runs of the arm {arm.name} on this task: IQM {arm.iqm:.2f}, {between} "
        f"(final returns {listed})."
    )


def _weights(facts: Facts) -> Iterator[str]:
    rows = [(name, n["kept"], n["total"]) for name, n in sorted(facts.networks.items())]
    if facts.weights is not None:
        rows.append(("exported policy", *facts.weights))
    if not rows:
        return
    yield "| network | kept | of | sparsity |"
    yield "|---|---:|---:|---:|"
    for name, kept, total in rows:
        yield f"| {name} | {kept:,} | {total:,} | {1 - kept / total:.2f} |"


def _speed(facts: Facts) -> Iterator[str]:
    if facts.sizes:
        sizes = ", ".join(f"`{name}` {size:,}" for name, size in facts.sizes.items())
        yield f"- Bytes: {sizes}."
    if facts.weights is not None:
        kept, total = facts.weights
        yield f"- One action multiplies {kept:,} weights; a dense network of its size, {total:,}."
    flops = {} if facts.arm is None else facts.arm.flops
    if flops.get("sparse") and flops.get("dense"):
        sparse, dense = flops["sparse"], flops["dense"]
        assert sparse is not None
        assert dense is not None
        yield f"- One update takes {sparse:,} operations; dense, {dense:,}."
    if facts.sizes or flops:
        yield "- Times depend on the machine: `kanbatsu bench --only inference` measures yours."


def _use(facts: Facts, repo_id: str | None) -> Iterator[str]:
    if facts.contract is None:
        return
    where = f'from_hub("{repo_id}")' if repo_id else 'load("policy")'
    module = "kanbatsu.hub" if repo_id else "kanbatsu.deploy"
    observation = facts.contract["observation"]
    shape = observation["shape"]
    yield "```python"
    yield "import numpy as np"
    yield f"from {module} import {where.partition('(')[0]}"
    yield ""
    yield f"policy = {where}"
    yield f"action = policy(np.zeros({tuple(shape)}, np.{observation['dtype']}))"
    yield "```"
    yield ""
    yield (
        "Observations are given as the environment gives them. Running needs numpy and no other "
        "framework; nothing is unpickled, every file is checked against its checksum, and golden "
        "pairs are computed again when the policy is loaded. `policy/contract.json` has names, "
        "units, ranges and the control period, as far as they are known."
    )


def _limits(facts: Facts) -> Iterator[str]:
    yield "- Evaluated on the task that it was trained on, and on nothing else; not on hardware."
    if 0 < len(facts.returns) < 10:
        yield f"- The run's own returns come from {len(facts.returns)} episodes."
    if facts.arm is None:
        yield "- One run: how far returns differ between seeds is not known."
    elif len(facts.arm.returns) < 5:
        yield f"- The arm has {len(facts.arm.returns)} finished seeds on this task."
    yield "- Greedy: exploration is not part of it. It holds no state, and no guard is inside."
    contract = facts.contract
    if contract is None:
        yield "- The policy itself is not exported: `kanbatsu export RUN --to DIR` does it."
        return
    if "absent" in contract["training_data"]:
        yield "- What observations it was trained on is not recorded."
    golden = contract["golden"]
    yield (
        f"- It acts as {golden['compared_with']} does to {golden['parity_error']:.1e} of half an "
        f"action's range, on {len(golden['observations'])} observations."
    )


def _provenance(facts: Facts) -> Iterator[str]:
    if facts.run_id:
        yield f"- Run: `{facts.run_id}`."
    if facts.question:
        yield f"- Question of its study: {facts.question}"
    if facts.machine:
        known = facts.machine.get("versions") or {}
        listed = ", ".join(f"{name} {version}" for name, version in sorted(known.items()))
        yield f"- Trained on {facts.machine.get('cpu')}, with {listed}."
    provenance = (facts.contract or {}).get("provenance") or {}
    if provenance.get("commit"):
        yield f"- Commit: `{provenance['commit']}`."
    if provenance.get("record_sha256"):
        yield f"- Checksum of the run's record: `{provenance['record_sha256']}`."
