"""What a task looks like: a camera, an environment's own picture, tiles, or a chart over time."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from kanbatsu.envs.dmc import DMCEnvironment
from kanbatsu.envs.functional import FunctionalEnvironment
from kanbatsu.envs.gym import PICTURES
from kanbatsu.envs.make import load_functional
from kanbatsu.envs.rendering import Renderer
from kanbatsu.envs.sight import Gauges, gauges_of, simulation_of, simulator_of
from kanbatsu.envs.spec import Environment, TaskError
from kanbatsu.play.drawing import COLOURS, blank, plot
from kanbatsu.play.episode import Moment

SIZE = (320, 240)
"""Width and height of a scene, in pixels."""
FEW = 4
"""Most entries of an action that a chart draws."""
TILES = "-MinAtar"
"""End of the names of gymnax's games on a grid of planes."""


@runtime_checkable
class Scene(Protocol):
    """A task as pictures."""

    def see(self, moment: Moment) -> None:
        """Take note of a moment; called at every one, while the environment stands at it."""
        ...

    def draw(self) -> Image.Image:
        """Draw the moment that was seen last, in `SIZE`."""
        ...

    def close(self) -> None:
        """Let go of what draws."""
        ...


def scene_of(task: str, environment: Environment) -> Scene:
    """Return what draws a task.

    A task of dm_control is seen by a camera, one of Gymnasium that makes pictures by its own, a
    game of MinAtar as tiles; of any other a chart is drawn, of its gauges where it has some, else
    of actions and rewards.

    Raises:
        TaskError: the picture cannot be made on this machine; the message says what is missing.
    """
    simulation = simulation_of(environment)
    if simulation is not None:
        return Filmed(simulation)
    simulator = simulator_of(environment)
    if isinstance(simulator, gymnasium.Env) and simulator.render_mode == PICTURES:
        return Own(simulator, task)
    if task.startswith("gymnax/") and task.endswith(TILES):
        return Tiles(load_functional(task, images=True))
    return Chart(environment)


class Filmed:
    """A simulator of MuJoCo, seen by its first camera.

    Args:
        simulation: a task of dm_control.

    Raises:
        TaskError: there is nothing to draw with.
    """

    def __init__(self, simulation: DMCEnvironment) -> None:
        self._simulation = simulation
        self._renderer = Renderer(simulation.model, min(SIZE), camera=0)

    def see(self, moment: Moment) -> None:
        """Note a terrain that the episode has changed; the simulator stands at the moment."""
        if moment.interaction == 1:
            self._renderer.upload()

    def draw(self) -> Image.Image:
        """Take the picture."""
        return fitted(Image.fromarray(self._renderer.render(self._simulation.data)))

    def close(self) -> None:
        """Let go of the renderer."""
        self._renderer.close()


class Own:
    """An environment of Gymnasium that draws itself.

    Args:
        environment: one with the render mode `rgb_array`.
        task: its name, for messages.

    Raises:
        TaskError: it cannot draw itself here.
    """

    def __init__(self, environment: gymnasium.Env, task: str) -> None:
        self._environment, self._task = environment, task

    def see(self, moment: Moment) -> None:
        """Nothing to note: the environment stands at the moment."""

    def draw(self) -> Image.Image:
        """Let the environment draw itself."""
        try:
            pixels: Any = self._environment.render()
        except Exception as error:  # of anybody's code
            raise TaskError(
                f"{self._task} cannot draw itself here ({type(error).__name__}: {error}). What "
                "Gymnasium's own tasks draw with is installed by pip install "
                "'gymnasium[classic-control]', 'gymnasium[box2d]' or 'gymnasium[mujoco]'; the last "
                "also needs MUJOCO_GL=egl or MUJOCO_GL=osmesa where there is no display"
            ) from error
        array = np.asarray(pixels)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
            raise TaskError(
                f"render() of {self._task} returned {array.dtype} {list(array.shape)}, and a "
                "picture is uint8 [height, width, 3]"
            )
        return fitted(Image.fromarray(array))

    def close(self) -> None:
        """Nothing to let go of: the environment is closed by whoever made it."""


class Tiles:
    """A game of MinAtar: each place of the grid in the colour of the plane that is set there."""

    def __init__(self, game: FunctionalEnvironment) -> None:
        self._shape = game.spec.obs_shape
        self._grid: UInt8[np.ndarray, "height width"] = np.zeros(self._shape[:2], np.uint8)

    def see(self, moment: Moment) -> None:
        """Note which planes are set; the number of the last of them, from 1, or 0."""
        planes = moment.obs.reshape(-1)[: int(np.prod(self._shape))].reshape(self._shape) > 0
        numbers = np.arange(1, self._shape[-1] + 1)
        self._grid = np.max(planes * numbers, axis=-1).astype(np.uint8)

    def draw(self) -> Image.Image:
        """Draw the tiles."""
        picture = blank(SIZE)
        draw, rows = ImageDraw.Draw(picture), len(self._grid)
        side = min(SIZE) // rows
        left, top = (SIZE[0] - side * self._grid.shape[1]) // 2, (SIZE[1] - side * rows) // 2
        palette = ((40, 40, 40), *COLOURS)
        for (row, column), plane in np.ndenumerate(self._grid):
            x, y = left + column * side, top + row * side
            colour = palette[0] if plane == 0 else palette[1 + (int(plane) - 1) % len(COLOURS)]
            draw.rectangle((x, y, x + side - 2, y + side - 2), fill=colour)
        return picture

    def close(self) -> None:
        """Nothing to let go of."""


class Chart:
    """The numbers of a task over time: its gauges, or actions and rewards."""

    def __init__(self, environment: Environment) -> None:
        self._gauges = gauges_of(environment)
        self._along = environment.spec.episode_length
        self._panels: dict[str, dict[str, list[float]]] = {}
        self._interactions = 0

    def see(self, moment: Moment) -> None:
        """Note the numbers of a moment."""
        if moment.interaction == 1:
            self._panels = {}
        self._interactions = moment.interaction
        numbers = _said_by(moment) if self._gauges is None else self._gauges()
        for panel, entries in numbers.items():
            lines = self._panels.setdefault(panel, {})
            for name, value in entries.items():
                lines.setdefault(name, []).append(value)

    def draw(self) -> Image.Image:
        """Draw the panels, one below the other."""
        picture = blank(SIZE)
        each = SIZE[1] // max(len(self._panels), 1)
        for number, (title, lines) in enumerate(self._panels.items()):
            box = (0, number * each, SIZE[0], (number + 1) * each)
            plot(picture, box, title, lines, self._along or self._interactions)
        return picture

    def close(self) -> None:
        """Nothing to let go of."""


def _said_by(moment: Moment) -> Gauges:
    """Return what is known of any task."""
    action = {f"{at + 1}": float(value) for at, value in enumerate(moment.action[:FEW])}
    return {"action": action, "reward": {"": moment.reward}, "return": {"": moment.total}}


def fitted(picture: Image.Image) -> Image.Image:
    """Bring a picture to `SIZE`, whole, on a blank ground."""
    scale = min(SIZE[0] / picture.width, SIZE[1] / picture.height)
    width, height = (max(round(length * scale), 1) for length in picture.size)
    small = picture.resize((width, height))
    ground = blank(SIZE)
    ground.paste(small, ((SIZE[0] - small.width) // 2, (SIZE[1] - small.height) // 2))
    return ground
