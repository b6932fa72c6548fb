"""The workflows call what there is, and are clean where a linter of workflows is installed."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PLACES = f"{ROOT / '.venv-workflows' / 'bin'}"


def jobs():
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield f"{path.stem}/{name}", job


def test_every_command_is_a_make_target_that_there_is():
    lines = [
        (name, step["run"])
        for name, job in jobs()
        for step in job.get("steps", ())
        if "run" in step
    ]
    assert len(lines) >= 8
    for name, line in lines:
        word, *goals = line.split()
        assert word == "make", f"{name}: {line}"
        named = [goal for goal in goals if "=" not in goal]
        assert named, f"{name}: {line}"
        assert set(named) <= TARGETS, f"{name}: {line}"


def test_every_python_that_is_supported_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    low, high = (int(minor) for minor in re.findall(r"3\.(\d+)", project["requires-python"]))
    tested = {text for name, job in jobs() for text in re.findall(r"3\.\d+", str(job))}
    assert {f"3.{minor}" for minor in range(low, high)} <= tested


def test_no_job_may_do_more_than_it_needs():
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text())["permissions"] == {}, path.name
    for name, job in jobs():
        granted = {scope for scope, level in job["permissions"].items() if level == "write"}
        assert not granted or name.endswith("/publish"), name


def test_the_forms_ask_for_what_is_needed():
    assert {path.stem for path in FORMS} == {"bug", "feature", "question"}
    for path in FORMS:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= form.keys()
        kinds = {"checkboxes", "dropdown", "input", "markdown", "textarea"}
        assert {part["type"] for part in form["body"]} <= kinds
    assert "kanbatsu doctor" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS),
        ("zizmor", "--offline", "--no-progress", "--quiet", ROOT / ".github" / "workflows"),
        ("actionlint", *WORKFLOWS),
    ],
    ids=lambda command: command[0],
)
def test_the_linters_find_nothing(command):
    program = shutil.which(command[0]) or shutil.which(command[0], path=PLACES)
    if program is None:
        pytest.skip(f"{command[0]} is not installed (`make workflows` installs it)")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
