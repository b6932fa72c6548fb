"""`kanbatsu bench`: what is raced, what is refused, and rows that mean what they say."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from kanbatsu import cli
from kanbatsu.agents.ddpg import DDPG, DDPGConfig
from kanbatsu.bench import inference, race
from kanbatsu.bench.contender import Contender
from kanbatsu.bench.entrant import Entrant, Facts
from kanbatsu.bench.plan import Choice, plan
from kanbatsu.bench.race import name_of
from kanbatsu.cli import machine
from kanbatsu.deploy import export_policy
from kanbatsu.types import Spec


def names(**given):
    chosen = machine.choice(machine.BenchArguments(**given))
    return [[name_of(spec) for spec in specs] for specs in plan(chosen)]


def test_what_is_measured_by_default_is_the_same_from_python_and_from_the_command_line():
    assert plan(machine.choice(machine.BenchArguments())) == plan(Choice())


def test_dense_is_always_raced_beside_sparse():
    asked = {"sizes": "4.4M,17M", "sparsity": "0.8,0.9", "patterns": "element", "only": "update"}
    assert names(**asked) == [["dense", "element 0.8, packed", "element 0.9, packed"]] * 2


def test_layers_have_no_update_and_inference_has_rivals():
    asked = {"sizes": "3x512", "sparsity": "0.9", "patterns": "grouped"}
    assert names(**asked) == [["dense", "numpy", "onnxruntime", "torch", "grouped 0.9, packed"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "5M"], "unknown size '5M': choose from 4.4M, 17M, 109M, 3x512, 3x2048"),
        (["--patterns", "rows"], "unknown pattern 'rows'"),
        (["--sparsity", "much"], "--sparsity takes numbers separated by commas"),
        (["--sparsity", "1.0"], "sparsities lie between 0 and 1"),
        (["--sizes", ","], "name at least one size: 4.4M"),
        (["--sizes", "3x512", "--only", "update"], "nothing to measure: 3x512"),
        (["--rounds", "0"], "--rounds must be at least 1, not 0"),
    ],
)
def test_mistakes_are_named(words, message, capsys):
    assert cli.main(["bench", *words]) == cli.USAGE
    assert message in capsys.readouterr().err


class Stopwatch(Contender):
    """A contender whose calls take what the test says, without a process."""

    milliseconds = {"dense": 10.0, "numpy": 4.0, "packed": 1.0}  # noqa: RUF012

    def __init__(self, spec):
        self.spec = spec

    def __exit__(self, *_):
        pass

    def facts(self):
        if self.spec.compute == "torch":
            return "not installed: torch"
        return Facts(weights=2_000, operations=4e6, state_bytes=8_000)

    def work(self, calls):
        return [self.milliseconds[self.spec.compute]] * calls

    def peak_bytes(self):
        return 123


@pytest.fixture
def raced(monkeypatch):
    monkeypatch.setattr(race, "Contender", Stopwatch)
    specs = [Entrant("inference", "3x512", 0.0, "dense", c) for c in ("dense", "numpy", "torch")]
    specs.append(Entrant("inference", "3x512", 0.9, "grouped", "packed"))
    return race.run_race(specs, rounds=2, peak_gflops=100.0, say=lambda _: None)


def test_ratios_are_to_the_fastest_dense_contender(raced):
    rows, absent = raced
    assert {row.compute: row.ratio_to_dense for row in rows} == {
        "dense": 0.4,
        "numpy": 1.0,
        "packed": 4.0,
    }
    assert list(absent.values()) == ["not installed: torch"]


def test_a_row_holds_what_was_asked_for(raced):
    record = raced[0][-1].record()
    assert record["milliseconds"] == 1.0
    assert record["gflops"] == 4.0  # 4e6 operations in a millisecond
    assert record["peak_gflops"] == 100.0
    assert (record["state_bytes"], record["peak_resident_bytes"]) == (8_000, 123)


def test_the_fastest_is_named_also_when_it_is_dense(raced):
    rows, _ = raced
    assert machine.fastest(rows) == "fastest: grouped 0.9, packed"
    assert machine.fastest(rows[:2]) == "fastest: numpy"


def test_rows_are_printed_and_stored(monkeypatch, tmp_path):
    monkeypatch.setattr(race, "Contender", Stopwatch)
    monkeypatch.setattr(race, "bare_product_gflops", lambda: 100.0)
    races = plan(Choice(["17M"], [0.9], ["grouped"], only="update"))
    console = Console(record=True, width=80)
    machine.measure(races, 2, tmp_path / "rows.json", console)
    text = console.export_text()
    assert "update, 17M" in text
    assert "fastest: grouped 0.9, packed" in text
    dense, grouped = json.loads((tmp_path / "rows.json").read_text())
    assert (dense["compute"], dense["ratio_to_dense"]) == ("dense", 1.0)
    assert (grouped["pattern"], grouped["ratio_to_dense"]) == ("grouped", 10.0)
    assert grouped["machine"]["cores"] >= 1


@pytest.mark.parametrize("compute", ["dense", "numpy", "packed"])
def test_every_contender_gives_the_same_action(compute, tmp_path):
    spec = Entrant("inference", "2x24", 0.5, "grouped", compute)
    config, obs_dim = inference.network(spec)
    agent = DDPG(Spec((obs_dim,), action_dim=3, episode_length=None), DDPGConfig(actor=config))
    state = agent.init(jax.random.key(0))
    export_policy(state.actor, state.normaliser, tmp_path)
    observation = np.linspace(-1.0, 1.0, obs_dim, dtype=np.float32)
    action = inference.LOADERS[compute](tmp_path)(observation)
    expected = agent.act_greedy(state, jnp.asarray(observation)[None])[0]
    np.testing.assert_allclose(np.ravel(action), expected, atol=1e-5)


def test_a_contender_works_in_a_process_of_its_own():
    with Contender(Entrant("inference", "2x24", 0.5, "grouped", "packed")) as contender:
        facts = contender.facts()
        assert isinstance(facts, Facts), facts
        assert facts.weights == (2 * 24 * 24 + 24 * 21) // 2
        assert all(milliseconds > 0 for milliseconds in contender.work(3))
        assert contender.peak_bytes() > 2**20


def test_a_contender_that_breaks_says_so():
    with Contender(Entrant("inference", "nonsense", 0.5, "grouped", "packed")) as contender:
        assert contender.facts() == "stopped with status 1"
