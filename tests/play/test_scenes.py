"""What tasks look like: cameras, environments that draw themselves, tiles and charts."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from kanbatsu.envs import rendering
from kanbatsu.envs.make import load_functional, make
from kanbatsu.envs.spec import Environment, TaskError
from kanbatsu.play.drawing import COLOURS, blank, write
from kanbatsu.play.episode import Moment
from kanbatsu.play.scenes import SIZE, Chart, Filmed, Own, Tiles, scene_of


class Drawn(gymnasium.Env):
    """Shows what it was told last."""

    metadata: Any = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    picture: Any = np.full((10, 40, 3), 7, np.uint8)

    def __init__(self) -> None:
        self.render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(1, np.float32), 0.0, False, True, {}

    def render(self) -> Any:
        if isinstance(self.picture, Exception):
            raise self.picture
        return self.picture


def drawn() -> gymnasium.Env:
    return Drawn()


def moment(obs: Any, interaction: int = 1) -> Moment:
    return Moment(interaction, np.asarray(obs), np.zeros(1), 0.0, 0.0, {}, False, None)


def colours(picture: Any) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(SIZE[0] * SIZE[1])}


def test_an_environment_draws_itself_and_is_fitted() -> None:
    task = f"{__name__}:drawn"
    environment = make(task)
    scene = scene_of(task, environment)
    assert isinstance(scene, Own)
    picture = scene.draw()
    assert picture.size == SIZE
    assert picture.getpixel((160, 120)) == (7, 7, 7)
    assert picture.getpixel((160, 60)) == (255, 255, 255)  # 40 by 10 leaves room above
    environment.close()


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (ImportError("no pygame"), r"cannot draw itself here .*no pygame.*classic-control"),
        (np.zeros((4, 4)), r"returned float64 \[4, 4\], and a picture is uint8"),
    ],
)
def test_what_cannot_draw_itself_says_what_is_missing(picture: Any, message: str) -> None:
    environment = Drawn()
    environment.picture = picture
    with pytest.raises(TaskError, match=message):
        Own(environment, "gym/Drawn").draw()


def test_tiles_show_the_planes_of_a_game() -> None:
    pytest.importorskip("gymnax")
    task = "gymnax/Breakout-MinAtar"
    scene = Tiles(load_functional(task, images=True))
    planes = np.zeros((10, 10, 4), np.float32)
    planes[9, 3, 0] = planes[0, 0, 3] = 1.0
    scene.see(moment(np.append(planes.ravel(), -0.5)))  # with the time, as streaming agents see it
    side = SIZE[1] // 10
    left = (SIZE[0] - 10 * side) // 2
    picture = scene.draw()
    assert picture.getpixel((left + 3 * side + 5, 9 * side + 5)) == COLOURS[0]
    assert picture.getpixel((left + 5, 5)) == COLOURS[3]
    assert picture.getpixel((left + 5 * side + 5, 5 * side + 5)) == (40, 40, 40)


@pytest.mark.parametrize(
    ("task", "panels"),
    [
        ("inventory/seasonal", {"on hand": 4, "orders": 4, "customers": 2}),
        ("plant/four-tank", {"tank 1, cm": 2, "tank 2, cm": 2, "pumps, V": 2}),
        ("gym/Pendulum-v1", {"action": 1, "reward": 1, "return": 1}),
    ],
)
def test_a_chart_follows_the_gauges(task: str, panels: dict[str, int]) -> None:
    environment: Environment = make(task)
    scene = Chart(environment)
    environment.reset(seed=0)
    for interaction in range(1, 31):
        step = environment.step(np.full(environment.spec.action_dim, 0.5))
        scene.see(moment(step.obs, interaction))
    assert {title: len(lines) for title, lines in scene._panels.items()} == panels
    assert {len(line) for lines in scene._panels.values() for line in lines.values()} == {30}
    assert COLOURS[0] in colours(scene.draw())
    environment.close()


def test_orders_on_the_chart_are_those_of_the_chain() -> None:
    environment: Any = make("inventory/serial")
    environment.reset(seed=0)
    environment.step(np.array([-1.0, 0.0, 0.5, 1.0]))
    assert list(environment.gauges()["orders"].values()) == [0.0, 1.0, 1.5, 2.0]


def test_a_camera_sees_a_simulator_move() -> None:
    pytest.importorskip("dm_control")
    try:
        rendering.backend()
    except TaskError as error:
        pytest.skip(str(error))
    environment = make("dmc/cartpole-swingup")
    environment.reset(seed=0)
    scene = scene_of("dmc/cartpole-swingup", environment)
    assert isinstance(scene, Filmed)
    scene.see(moment(np.zeros(5)))
    before = scene.draw()
    for _ in range(20):
        environment.step(np.ones(1))
    after = scene.draw()
    scene.close()
    environment.close()
    assert before.size == after.size == SIZE
    assert len(colours(before)) > 50
    assert before.tobytes() != after.tobytes()


def test_a_machine_that_cannot_draw_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dm_control")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    environment = make("dmc/cartpole-swingup")
    with pytest.raises(TaskError, match=r"draws nothing without a display.*libosmesa6"):
        scene_of("dmc/cartpole-swingup", environment)
    environment.close()


def test_a_long_name_is_cut_off() -> None:
    picture = blank((80, 20))
    write(picture, (4, 2), "a name that is far too long", 12)
    edge = picture.crop((78, 0, 80, 20))
    assert colours(edge) == {(255, 255, 255)}
