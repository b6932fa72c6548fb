"""What a run of the bench is: the stream of tasks, the classifier, the learning rate, the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kanbatsu.files.tables import ADDED, from_dict
from kanbatsu.ranges import Natural, Positive
from kanbatsu.remedies.reading import read_remedies
from kanbatsu.remedies.records import Remedy
from kanbatsu.sparsity.config import Pruning


@dataclass(frozen=True)
class LabelStream:
    """A stream of tasks: the same inputs throughout, and labels that are drawn anew for each task.

    Example:
        >>> LabelStream(tasks=30, steps=100).length
        3000
    """

    tasks: Natural = 30
    """Tasks that follow one another."""
    steps: Natural = 100
    """Gradient steps per task."""
    batch_size: Natural = 32
    """Inputs per gradient step, drawn with replacement."""
    inputs: Natural = 256
    """Gaussian inputs, drawn once per seed and kept for all tasks."""
    features: Natural = 32
    """Length of an input."""
    classes: Natural = 10
    """Classes that a label is drawn from."""
    window: Natural = 5
    """Tasks whose accuracies a result averages: the latest ones."""
    probe_every: Natural = 5
    """Tasks between measurements of the network's health; the first and the last are measured in
    any case."""

    @property
    def length(self) -> int:
        """Gradient steps of the whole stream."""
        return self.tasks * self.steps


@dataclass(frozen=True)
class ClassifierShape:
    """A multi-layer perceptron's size and form."""

    width: Natural = 256
    """Units of each hidden layer."""
    blocks: Natural = 6
    """Hidden layers."""
    norm: Literal["none", "layernorm"] = "layernorm"
    """Normalisation between a layer's product and its ReLU."""
    residual: bool = False
    """Flag of hidden layers, all but the first, that add their outputs to their inputs."""


# Of two bases a dataclass puts the last one's fields first: the shape, then the pruning.
@dataclass(frozen=True)
class ClassifierConfig(Pruning, ClassifierShape):
    """A classifier's shape, and how much of it is removed before training."""

    compute: Literal["masked"] = "masked"
    """How pruned weights are stored: as masked dense ones, so that seeds with different masks go
    side by side in one program."""


@dataclass(frozen=True)
class LabelConfig:
    """The configuration of an arm: its one network, by name."""

    classifier: ClassifierConfig
    """The network that learns."""


@dataclass(frozen=True)
class LabelRun:
    """Everything that decides what a run of the bench does."""

    task: str
    """Name of the stream with the learning rate, as reports show it, such as `labels/0.001`."""
    seed: int
    """Seed of every random draw in the run: inputs, labels, batches, weights and mask."""
    env_steps: int
    """Gradient steps at which the run ends."""
    learning_rate: Positive
    """Learning rate of Adam, which keeps its moments from task to task."""
    config: LabelConfig
    """The network."""
    train: LabelStream
    """The stream of tasks."""
    agent: str = "classifier"
    """Name of what learns, as reports show it."""
    remedy: tuple[Remedy, ...] = field(default=(), metadata=ADDED)
    """Remedies of the run; none by default."""


def label_run_from_dict(table: Mapping[str, Any]) -> LabelRun:
    """Build a run from what `config.json` holds.

    Raises:
        RecordError: It is not the record of a run of the bench.
    """
    own = {key: value for key, value in table.items() if key != "remedy"}
    return replace(from_dict(LabelRun, own), remedy=read_remedies(table.get("remedy", ())))
