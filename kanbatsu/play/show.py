"""Players in the same episodes, side by side: numbers of each, and the frames of a film."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from kanbatsu.envs.spec import Environment
from kanbatsu.envs.vector import episode_seed
from kanbatsu.play.episode import Moment, play
from kanbatsu.play.player import Player
from kanbatsu.play.scenes import Scene, scene_of
from kanbatsu.play.stage import Column, frame

MOST_FRAMES = 300
"""Frames of an episode; of a longer one, every second, third, ... interaction is drawn."""
ROWS = 2
"""Rows of the strip of dormant units: no agent has more than an actor and a critic."""


class Outcome(NamedTuple):
    """What an episode came to."""

    player: str
    """Name of who played."""
    episode: int
    """Number of the episode, from 0."""
    return_: float
    """Undiscounted sum of reward."""
    interactions: int
    """Length of the episode."""
    success: bool | None
    """Success, where the task reports it."""
    dormant: Mapping[str, float]
    """Share of dormant units of each network on its last transitions."""


class Show:
    """Players on their own copies of one task; equal seeds give all of them the same episodes.

    Args:
        players: who plays, from left to right.
        seed: decides the episodes, as that of an evaluation does.
        drawn: pictures are wanted.

    Raises:
        TaskError: the task cannot be had, or pictures of it cannot be made here.
    """

    def __init__(self, players: Sequence[Player], seed: int, *, drawn: bool = False) -> None:
        self.players, self._seed = players, seed
        self._environments: list[Environment] = []
        self._scenes: list[Scene] = []
        for player in players:
            self._environments.append(player.environment())
            if drawn:
                self._scenes.append(scene_of(player.run.task, self._environments[-1]))
        self.pictures: dict[str, list[Image.Image]] = {player.name: [] for player in players}
        """Scenes of the first episode as they were drawn, by player."""

    def episodes(self, count: int, ended: Callable[[Outcome], None]) -> Iterator[Image.Image]:
        """Play episodes; yield a frame of all players where pictures are wanted.

        Args:
            count: episodes to play.
            ended: called with the outcome of each player's episode.
        """
        for episode in range(count):
            yield from self._episode(episode, ended)

    def close(self) -> None:
        """Let go of scenes and simulators."""
        for scene in self._scenes:
            scene.close()
        for environment in self._environments:
            environment.close()

    def _episode(self, episode: int, ended: Callable[[Outcome], None]) -> Iterator[Image.Image]:
        seed = episode_seed(self._seed, 0, episode)
        pairs = list(zip(self.players, self._environments, strict=True))
        going = {at: play(*pair, seed) for at, pair in enumerate(pairs)}
        along = self._environments[0].spec.episode_length or MOST_FRAMES
        every = -(-along // MOST_FRAMES)
        columns = [Column(player.name, along) for player in self.players]
        while going:
            drawn = False
            for at in tuple(going):
                moment = next(going[at])
                columns[at].see(moment)
                if self._scenes:
                    drawn |= self._draw(at, moment, columns[at], every, first=episode == 0)
                if moment.over:
                    del going[at]
                    ended(_outcome(self.players[at].name, episode, moment))
            if drawn:
                yield frame(columns, ROWS)

    def _draw(self, at: int, moment: Moment, column: Column, every: int, *, first: bool) -> bool:
        """Draw a player's scene where that is due; return whether it was."""
        scene = self._scenes[at]
        scene.see(moment)
        if not (moment.over or (moment.interaction - 1) % every == 0):
            return False
        column.picture = scene.draw()
        if first:
            self.pictures[self.players[at].name].append(column.picture)
        return True


def _outcome(player: str, episode: int, last: Moment) -> Outcome:
    return Outcome(player, episode, last.total, last.interaction, last.success, last.dormant)
