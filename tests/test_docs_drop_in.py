"""The drop-in page holds: its snippets run, and every test that its tables name exists."""

import ast
import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "drop-in.md").read_text()
SECTIONS = {
    text.partition("\n")[0]: re.findall(r"^```diff\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
ROWS = re.findall(r"^\| .* \| \[`(\w+)`\]\(\.\./([\w/]+\.py)\) \|$", PAGE, re.MULTILINE)


def test_every_row_of_the_tables_names_a_test():
    _, tables = PAGE.split("## What is supported")
    lines = [line for line in tables.splitlines() if line.startswith("|")]
    headings = 2 * tables.count("\n### ")  # a heading and the line below it
    assert len(ROWS) == len(lines) - headings


@pytest.mark.parametrize(("name", "file"), sorted(set(ROWS)))
def test_the_test_exists(name, file):
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("section", [name for name, snippets in SECTIONS.items() if snippets])
def test_snippets_run_and_kanbatsu_is_in_the_added_lines_only(section, tmp_path, monkeypatch):
    lines = "".join(SECTIONS[section]).splitlines()
    before, after = (
        "\n".join(line[1:] for line in lines if line[:1] != taken_out) for taken_out in "+-"
    )
    assert "kanbatsu" not in before
    if section == "SBX":  # slow to import and to compile, and its example has the same lines
        example = (ROOT / "examples" / "09_sbx.py").read_text()
        assert all(line in example for line in after.splitlines() if "import" in line)
        return
    monkeypatch.chdir(tmp_path)
    # The examples learn, and in full size; here it would take time.
    small = after.replace('"Pendulum-v1"', '"Pendulum-v1", policy_kwargs={"net_arch": [16, 16]}')
    monkeypatch.setattr(
        "stable_baselines3.common.off_policy_algorithm.OffPolicyAlgorithm.learn",
        lambda model, *_, **__: model,
    )
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(small, section, "exec"), {})
