"""What a run's results say last, while they grow."""

from pathlib import Path

from kanbatsu.files.store import RunFolder
from kanbatsu.files.tail import Tail


def test_it_follows_a_growing_file_and_a_resumed_one(tmp_path: Path) -> None:
    run, tail = RunFolder(tmp_path), Tail(tmp_path)
    assert tail.read() == []
    assert not tail.begun
    run.append({"kind": "networks", "env_steps": 0})
    run.append({"kind": "evaluation", "env_steps": 0, "mean_return": -5.0})
    tail.read()
    assert tail.latest_return == -5.0
    run.append({"kind": "update", "env_steps": 5})
    tail.read()
    assert tail.latest_return == -5.0
    run.append({"kind": "episode", "env_steps": 10, "return": 7.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "episode", "env_steps": 10, "ret')
    tail.read()
    assert tail.latest_return == 7.0
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('urn": 8.0}\n')
    tail.read()
    assert tail.latest_return == 8.0
    run.truncate({"metrics.jsonl": 0})
    run.append({"kind": "episode", "env_steps": 10, "return": 3.0})
    tail.read()
    assert tail.latest_return == 3.0
    assert tail.env_steps == 10


def test_the_worst_of_the_latest_probe_is_pointed_out(tmp_path: Path) -> None:
    run, tail = RunFolder(tmp_path), Tail(tmp_path)

    def probe(**metrics: float) -> str | None:
        named = {name.replace("__", "/"): value for name, value in metrics.items()}
        run.append({"kind": "probe", "env_steps": 5, "metrics": named})
        tail.read()
        return tail.warning

    assert probe(critic__srank=3.0) is None
    assert probe(critic__srank=3.0, **{"critic/dormant_0.1": 0.49}) is None
    sick = {"critic/dormant_0.1": 0.5, "actor/dormant_0.1": 0.75, "actor/dormant_0.1/block0": 0.9}
    assert probe(**sick) == "actor: 75 % of units dormant"
    assert probe(critic__gradient_norm=float("nan"), **sick) == "critic/gradient_norm is not finite"
