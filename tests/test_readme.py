"""README and docs hold: code runs, commands parse, links lead somewhere, tables are complete."""

import dataclasses
import re
import shlex
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from kanbatsu import cli, conduct
from kanbatsu.agents import AGENTS as EVERY_AGENT
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.conduct import StudyOutcome
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.study.budget import solve
from kanbatsu.study.file import study_from_dict
from kanbatsu.study.plan import check_study
from kanbatsu.types import Spec, Transition

AGENTS = {n: entry for n, entry in EVERY_AGENT.items() if entry.schedule is TrainConfig}
ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


COMMANDS = [
    (page, line)
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.replace("\\\n", "").splitlines()
    if line.strip()
]


@pytest.mark.parametrize(("page", "stop"), [("README.md", "."), ("README.ja.md", "。")])
def test_the_first_screen_is_a_sentence_and_the_line_for_pytorch_and_for_jax(page, stop):
    _, other, sentence, table = PAGES[page].split("\n\n")[:4]
    assert other.count("](README") == 1
    assert sentence.count(stop) == sentence.endswith(stop) == 1
    assert table.startswith("<table>")
    lines = [line for block in blocks(page, "python") for line in block.splitlines()]
    assert len(lines) < 15
    assert any(line.startswith("prune_policy(model") for line in lines)
    assert any("kanbatsu.prune(model" in line for line in lines)
    assert blocks(page, "sh")[0] == "make demo\nmake test\n"


def test_both_readmes_show_the_same_code_and_lead_to_pages_of_the_same_name():
    english, japanese = "README.md", "README.ja.md"
    for language in ("python", "sh"):
        assert blocks(english, language) == blocks(japanese, language)
    names = [
        [Path(link).name for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page])][1:]
        for page in (english, japanese)
    ]
    assert sorted(name.replace("-ja", "") for name in names[1]) == sorted(names[0])


def test_python_blocks_run_from_top_to_bottom(tmp_path):
    files = []
    for number, page in enumerate(PAGES):
        if code := "\n".join(blocks(page, "python")):
            files.append(tmp_path / f"page{number}.py")
            files[-1].write_text(code)
    assert len(files) >= 3
    run_each = "import runpy, sys; [runpy.run_path(path) for path in sys.argv[1:]]"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", run_each, *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert blocks("docs/start.md", "text")[0] in done.stdout
    assert "\n205\n" in done.stdout  # the comment beside the last block says so


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[line for _, line in COMMANDS])
def test_shell_commands_exist(page, command, monkeypatch):
    program, *words = shlex.split(command)
    if program == "make":
        rules = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(rules)
        return
    assert program == "kanbatsu"
    monkeypatch.chdir(ROOT)
    planned = []

    def carry_out(study, out, **how):
        planned.append(study)
        return StudyOutcome(False, study, {}, Path("report.html"), (), ())

    monkeypatch.setattr(conduct, "carry_out", carry_out)
    if words[0] in ("train", "study"):
        assert cli.main(words) == 1
        assert check_study(solve(planned[0]))
    else:
        with pytest.raises(SystemExit) as ended:
            cli.main([words[0], "--help"])
        assert ended.value.code == 0


def test_the_study_file_of_the_first_steps_compares_what_it_says():
    (text,) = blocks("docs/start.md", "toml")
    study = study_from_dict(tomllib.loads(text))
    counts = check_study(study)
    dense, sparse = (counts[name]["critic"] for name in ("dense", "sparse"))
    assert dense.kept == dense.total
    width, wide = (study.arms[name].config.critic.width for name in ("dense", "sparse"))
    assert wide == 2 * width  # "of twice the width"
    assert sparse.kept < dense.kept


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", PAGES[page], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


@pytest.mark.parametrize(
    ("page", "config"),
    [
        ("docs/studies.md", TrainConfig),
        ("docs/simba.md", CriticConfig),
        *((f"docs/{name}.md", entry.config) for name, entry in AGENTS.items()),
    ],
)
def test_every_setting_stands_in_its_table_with_its_default(page, config):
    for item in dataclasses.fields(config):
        if item.name in ("actor", "critic"):
            continue
        found = re.search(rf"^\| `{item.name}` \| ([^|]+) \|", PAGES[page], re.MULTILINE)
        assert found, item.name
        first = found[1].split(" ")[0]
        if isinstance(item.default, str):
            assert first == f'`"{item.default}"`'
        elif isinstance(item.default, bool):
            assert first == str(item.default).lower()
        elif item.default == ():
            assert first == "none"
        elif item.default is not None:
            assert float(first.replace(",", "")) == item.default, item.name


def test_the_page_of_studies_names_every_setting_and_that_of_simba_every_choice():
    for entry in AGENTS.values():
        for item in dataclasses.fields(entry.config):
            assert f"`{item.name}`" in PAGES["docs/studies.md"]
    for hint in typing.get_type_hints(NetworkConfig).values():
        for choice in typing.get_args(hint):
            assert f'`"{choice}"`' in PAGES["docs/simba.md"]


@pytest.mark.parametrize("name", AGENTS)
def test_every_metric_and_probe_has_its_line(name):
    network = CriticConfig(width=8, blocks=1, members=2)
    agent = AGENTS[name].agent(
        Spec((3,), action_dim=1, episode_length=None),
        AGENTS[name].config(actor=NetworkConfig(width=8, blocks=1), critic=network),
    )
    key = jax.random.key(0)
    one = Transition(
        obs=jnp.zeros((4, 3)),
        action=jnp.zeros((4, 1)),
        reward=jnp.zeros(4),
        terminated=jnp.zeros(4, bool),
        truncated=jnp.zeros(4, bool),
        next_obs=jnp.zeros((4, 3)),
    )
    many = jax.tree.map(lambda x: x[None], one)
    state = jax.eval_shape(agent.init, key)
    _, metrics = jax.eval_shape(agent.update, state, many, key)
    for metric in metrics:
        assert f"`{metric}`" in PAGES[f"docs/{name}.md"], metric
    probes = "".join(text for page, text in PAGES.items() if page.startswith("docs/probes/"))
    for probe in jax.eval_shape(agent.probe, state, one, key):
        network_name, kind, *_ = probe.split("/")
        assert f"`{network_name}/{kind}`" in probes or f"`{kind}`" in probes, probe
