"""The one-way law: a file imports only from rooms above its own; and nothing is ever unpickled."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kanbatsu"
FILES = {path.relative_to(PACKAGE.parent).as_posix(): path for path in PACKAGE.rglob("*.py")}
ROOMS = (
    ("spec", "extras"),
    ("types", "ranges", "tree", "machine"),
    ("files",),
    ("report",),
    ("kernels",),
    ("sparsity",),
    ("nn",),
    ("probes",),
    ("envs", "replay", "windows"),
    ("remedies",),
    ("agents",),
    ("train",),
    ("run",),
    ("study",),
    ("engine",),
    ("forecast",),
    ("conduct",),
    ("plasticity",),
    ("poc",),
    ("play",),
    ("deploy",),
    ("hub",),
    ("rollout",),
    ("torch", "flax"),
    ("integrations",),
    ("bench",),
    ("doctor",),
    ("cli",),
)
"""From top to bottom; rooms on one line do not know each other."""
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
PUBLIC = {"conduct", "extras", "sparsity", "study"}
"""Rooms whose names `kanbatsu` itself has, each imported when it is first used."""
FORBIDDEN = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def imports(source: str) -> Iterator[str]:
    """Name everything that a file imports, wherever in it that happens."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def breaches(file: str, source: str) -> list[str]:
    """Return the imports of a file that break the law."""
    room = Path(file).parts[1].removesuffix(".py")
    broken = []
    for name in imports(source):
        parts = name.split(".")
        if name.startswith("."):
            broken.append(name)  # a relative import hides which room it is
        if parts[0] != "kanbatsu":
            continue
        target = parts[1] if len(parts) > 1 else ""
        if room == "__init__":
            allowed = target in PUBLIC
        else:
            allowed = target == room or LEVEL.get(target, len(ROOMS)) < LEVEL[room]
        if not allowed:
            broken.append(name)
    return broken


@pytest.mark.parametrize("file", FILES)
def test_imports_go_one_way(file):
    assert breaches(file, FILES[file].read_text()) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("kanbatsu/sparsity/prune.py", "from kanbatsu.nn.layers import Linear"),
        ("kanbatsu/envs/gym.py", "from kanbatsu.replay import Replay"),
        ("kanbatsu/report/page.py", "from kanbatsu.study.plan import Study"),
        ("kanbatsu/report/page.py", "from kanbatsu import study"),
        ("kanbatsu/agents/sac.py", "def late():\n    import kanbatsu.run.record"),
        ("kanbatsu/agents/sac.py", "from kanbatsu import prune"),
        ("kanbatsu/agents/sac.py", "from .common import trainable"),
        ("kanbatsu/__init__.py", "from kanbatsu.agents import AGENTS"),
    ],
)
def test_a_breach_is_found(file, source):
    assert len(breaches(file, source)) == 1


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_unpickled_or_evaluated(file):
    source = FILES[file].read_text()
    assert not FORBIDDEN & {name.lstrip(".").partition(".")[0] for name in imports(source)}
    for node in ast.walk(ast.parse(source)):
        called = node.func if isinstance(node, ast.Call) else None
        assert not (isinstance(called, ast.Name) and called.id in ("eval", "exec"))
        assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle")


def test_importing_kanbatsu_imports_nothing_else():
    program = "import sys, kanbatsu; print(*(m for m in sys.modules if m.startswith('kanbatsu.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "\n", done.stderr


@pytest.mark.parametrize("file", FILES)
def test_only_the_command_line_parses_and_prints(file):
    libraries = {name.partition(".")[0] for name in imports(FILES[file].read_text())}
    if not file.startswith("kanbatsu/cli/"):
        assert "tyro" not in libraries
        assert "rich" not in libraries or file == "kanbatsu/engine/progress.py"


def ring(graph: dict[str, set[str]]) -> list[str]:
    """Return the files that import one another in a ring, lazily or not, and what needs them."""
    left = {file: set(needed) for file, needed in graph.items()}
    while free := [file for file, needed in left.items() if not needed & left.keys()]:
        for file in free:
            del left[file]
    return sorted(left)


def graph() -> dict[str, set[str]]:
    """Return which files of the package each file imports, wherever in it that happens."""
    modules = {file.removesuffix(".py").replace("/", "."): file for file in FILES}
    modules |= {name.removesuffix(".__init__"): file for name, file in modules.items()}
    needed = {}
    for file, path in FILES.items():
        names = imports(path.read_text())
        both = ((name, name.rpartition(".")[0]) for name in names)
        needed[file] = {
            modules[n]
            for pair in both
            for n in pair[: 1 + (pair[0] not in modules)]
            if n in modules
        } - {file}
    return needed


def test_no_files_import_one_another_in_a_ring():
    assert ring(graph()) == []
    assert ring({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_a_file_is_one_idea():
    sources = [*FILES.values(), *PACKAGE.rglob("*.cc"), *PACKAGE.rglob("*.h")]
    lengths = {path.name: len(path.read_text().splitlines()) for path in sources}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
    assert statistics.median(len(path.read_text().splitlines()) for path in sources) <= 135
