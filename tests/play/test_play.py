"""Episodes of trained agents: the same as in evaluation, side by side, filmed, in the report."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from kanbatsu import cli
from kanbatsu.envs.make import make
from kanbatsu.files.store import RunFolder, StudyFolder
from kanbatsu.files.tables import RecordError
from kanbatsu.play import show
from kanbatsu.play.cast import Choice, cast
from kanbatsu.play.player import WINDOW, player_of
from kanbatsu.play.show import Outcome, Show
from kanbatsu.play.stage import height_of
from kanbatsu.report.language import texts
from kanbatsu.report.work import MOST_CHARACTERS, at_work
from kanbatsu.run.incumbent import evaluate_policy, load_policy
from kanbatsu.train.evaluate import evaluate


@pytest.fixture
def study(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be written to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Path(shutil.copytree(trained, tmp_path / "out"))


def outcomes_of(playing: Show, episodes: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    assert list(playing.episodes(episodes, outcomes.append)) == []
    playing.close()
    return outcomes


def test_the_episodes_are_those_of_an_evaluation(trained: Path) -> None:
    players = cast(trained, Choice(("dense", "incumbent")))
    played = outcomes_of(Show(players, seed=7), 2)
    agent = evaluate(
        lambda state, obs: players[0].act(obs[0])[None],
        None,
        make("inventory/serial"),
        seed=7,
        episodes=2,
    )
    rule = evaluate_policy(
        lambda: load_policy("kanbatsu.envs.base_stock:serial"),
        make("inventory/serial"),
        seed=7,
        episodes=2,
    )
    returns = {
        name: [outcome.return_ for outcome in played if outcome.player == name]
        for name in ("dense", "incumbent")
    }
    assert returns["dense"] == list(agent.returns)
    assert returns["incumbent"] == list(rule.returns)
    assert {outcome.interactions for outcome in played} == {100}


def test_dormant_units_are_measured_on_what_was_played(trained: Path) -> None:
    (dense,) = cast(trained, Choice(("dense",)))
    (outcome,) = outcomes_of(Show([dense], seed=0), 1)
    assert outcome.dormant.keys() == {"actor", "critic"}
    assert all(0.0 <= share <= 1.0 for share in outcome.dormant.values())
    assert WINDOW > 100  # so the whole episode counts, and one that repeats it changes nothing


def test_one_run_plays_alone(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["play", str(study / "runs" / "sparse"), "--episodes", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "inventory/serial, after 40 env steps with seed 0"
    assert [line.split()[:2] for line in lines[2:]] == [["sparse", "1"], ["sparse", "2"]]
    assert "dormant critic" in lines[1]


def test_a_film_shows_the_arms_side_by_side(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "MOST_FRAMES", 20)  # every fifth of 100 interactions, and the last
    assert cli.main(["play", str(study), "--video", "film.gif", "--arms", "dense", "sparse"]) == 0
    with Image.open("film.gif") as film:
        # Equal frames in a row, of which there are none here, would become one.
        assert film.n_frames == 21
        assert film.size == (640, height_of(2))
        film.seek(20)
        last = film.convert("RGB")
    halves = [last.crop((left, 60, left + 320, 270)).tobytes() for left in (0, 320)]
    assert halves[0] != halves[1]
    assert "film: film.gif (21 frames)" in capsys.readouterr().out

    page = StudyFolder(study).report().read_text()
    images = [part.partition('"')[0] for part in page.split('src="')[1:]]
    assert len(images) == 2
    assert all(image.startswith("data:image/jpeg;base64,") for image in images)
    assert max(map(len, images)) <= MOST_CHARACTERS
    assert "Agents at work" in page


def test_a_picture_from_elsewhere_is_not_loaded(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.pictures() == []
    picture = {"arm": "dense", "task": "a", "seed": 0, "return": 1.0, "interactions": 1_000}
    small = "data:image/jpeg;base64,AAAA"
    folder.write_pictures(
        [
            picture | {"image": small},
            picture | {"image": "https://example.org/a.jpg"},
            picture | {"arm": "nobody", "image": small},
            picture | {"image": "data:image/jpeg;base64," + "A" * MOST_CHARACTERS},
        ]
    )
    (shown,) = at_work(folder.pictures(), {"dense": "today's network"}, texts("en"))
    assert shown == {
        "arm": "today's network",
        "caption": "a, seed 0: return 1.00 in 1,000 interactions.",
        "image": small,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--video", "film.avi"], "a film is written as .mp4 or .gif"),
        (["--arms", "sparze"], "no arm 'sparze' in out. Did you mean 'sparse'?"),
        (["--task", "inventory/seriell"], "no task 'inventory/seriell'"),
        (["--run-seed", "3"], "has no run with seed 3 on inventory/serial: it has 0"),
        (["--episodes", "0"], "--episodes and --frames-per-second are at least 1"),
    ],
)
def test_what_cannot_be_played_is_named(
    study: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    try:
        code = cli.main(["play", study.name, *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_run_without_a_checkpoint_cannot_act(study: Path) -> None:
    shutil.rmtree(study / "runs" / "dense" / "checkpoint")
    with pytest.raises(RecordError, match=r"dense .* holds no checkpoint"):
        player_of(RunFolder(study / "runs" / "dense"), "dense")
    with pytest.raises(RecordError, match="is not the folder of a run"):
        player_of(RunFolder(study / "nowhere"), "nowhere")
    with pytest.raises(RecordError, match="holds neither a study nor a run"):
        cast(study / "nowhere", Choice())
