"""The picture of how much faster sparse networks train, from what the benchmarks have stored.

One bar for single weights and one for whole inputs of groups, for each kind of work; a dense
network of the same size is 1. The machine of each measurement stands below its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from kanbatsu.report.evidence.tables import plural

PATTERNS = {"element": "single weights removed", "grouped": "inputs of groups removed"}
"""Patterns that are drawn, and what the legend calls them."""
COLOURS = {"element": "#8fbf9f", "grouped": "#1f7a4d"}
SIZES = ("1024x2", "256x2")
"""Width x hidden layers of the networks of libraries that are drawn."""
WHOLE = "17M"
"""Size of kanbatsu's own SAC that is drawn, as `kanbatsu bench` names it."""
SPARSITY = 0.9
WIDTH, LABEL, ROW, BAR, TOP, BOTTOM = 860, 330, 56, 17, 58, 34
PAPER, INK, PALE = "#fdfdfb", "#1e2328", "#5b636b"


@dataclass(frozen=True)
class Work:
    """One kind of work, and how many times as fast as dense it is, by pattern."""

    name: str
    machine: str
    ratios: Mapping[str, float]


def read(results: Path) -> list[Work]:
    """Read what is drawn from the folder of stored results.

    Args:
        results: The folder, benchmarks/results in the repository.
    """
    rows = json.loads((results / "bench.json").read_text())
    own = {
        row["pattern"]: row
        for row in rows
        if (row["what"], row["size"], row["sparsity"]) == ("update", WHOLE, SPARSITY)
    }
    works = [
        Work(
            f"kanbatsu, SimBa critic of {WHOLE} weights",
            _machine(own["grouped"]["machine"]),
            {pattern: own[pattern]["ratio_to_dense"] for pattern in PATTERNS},
        )
    ]
    for library, ratios in (("Stable-Baselines3", _torch), ("SBX", _flax)):
        for size in SIZES:
            machine, found = ratios(results, size)
            width, layers = size.split("x")
            name = f"{library}, {layers} layers of {int(width):,}"
            works.append(Work(name, _machine(machine), found))
    return works


def draw(works: Sequence[Work]) -> str:
    """Return the picture as a document of its own; text is text, and nothing points outside."""
    height = TOP + ROW * len(works) + BOTTOM
    most = max(ratio for work in works for ratio in work.ratios.values())
    scale = (WIDTH - LABEL - 70) / max(most, 1.0)
    title = "One update of SAC with nine tenths of the weights removed, times as fast as dense"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{PAPER}"/>',
        _text(20, 26, title, weight="600"),
    ]
    x = 20
    for name, meaning in PATTERNS.items():
        parts += [
            f'<rect x="{x}" y="36" width="12" height="12" fill="{COLOURS[name]}"/>',
            _text(x + 18, 47, meaning, PALE),
        ]
        x += 200
    for index, work in enumerate(works):
        y = TOP + ROW * index
        parts += [_text(20, y + 20, work.name), _text(20, y + 38, work.machine, PALE, size=11)]
        for place, (name, ratio) in enumerate(work.ratios.items()):
            top = y + 6 + place * (BAR + 3)
            parts += [
                f'<rect x="{LABEL}" y="{top}" width="{scale * ratio:.1f}" height="{BAR}" '
                f'fill="{COLOURS[name]}"/>',
                _text(LABEL + scale * ratio + 6, top + 13, f"{ratio:.1f}"),
            ]
    bottom = TOP + ROW * len(works)
    parts += [
        f'<line x1="{LABEL + scale:.1f}" x2="{LABEL + scale:.1f}" y1="{TOP}" y2="{bottom + 4}" '
        f'stroke="{INK}" stroke-dasharray="3 3"/>',
        _text(LABEL + scale, bottom + 20, "dense = 1", PALE, anchor="middle"),
    ]
    return "\n".join([*parts, "</svg>\n"])


def _torch(results: Path, size: str) -> tuple[Mapping[str, Any], dict[str, float]]:
    """Return the machine and the ratios of kept storage, by benchmarks/torch_storage.py."""
    latest = _latest(results / "torch_storage.jsonl")
    times = latest["rows"][f"SAC update, {size}, fused Adam"]["wall"]["quartiles of times as fast"]
    machine = {**latest["machine"], "cores": latest["threads"]}
    return machine, {name: times[f"kept {name}"][1] for name in PATTERNS}


def _flax(results: Path, size: str) -> tuple[Mapping[str, Any], dict[str, float]]:
    """Return the same of benchmarks/flax_step.py."""
    latest = _latest(results / "flax_step.jsonl")
    times = latest["rows"][f"SAC update, {size}"]["times as fast as dense"]
    return latest["machine"], {name: times.get(f"kept {name}", times[name]) for name in PATTERNS}


def _latest(path: Path) -> Any:
    return json.loads(path.read_text().splitlines()[-1])


def _machine(facts: Mapping[str, Any]) -> str:
    name = facts["cpu"].replace("(R)", "").replace(" Processor", "").split(" @")[0]
    kernels = facts.get("instruction_set", "").upper().replace("AVX5", "AVX-5")
    return ", ".join(part for part in (name, kernels, plural(facts["cores"], "core")) if part)


def _text(
    x: float | int,
    y: float | int,
    text: str,
    fill: str = INK,
    *,
    size: int = 13,
    weight: str = "400",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
