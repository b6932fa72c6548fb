"""What `kanbatsu poc init` writes: a plan to read through, with every choice explained."""

from __future__ import annotations

import json
from pathlib import Path

from kanbatsu.files.tables import RecordError

TEMPLATE = """\
# A proof of concept: is a sparse network worth it on this task?
# Read every line, change what does not fit your task, then run:
#     kanbatsu poc run {file}
# The same command continues after a stop.

# What is to be found out, and what counts as success on this task: the final return is the mean
# undiscounted return of the last {evaluation_episodes} greedy episodes of a run.
question = {question}
tasks = [{task}]
agent = "sac"
env_steps = 20_000     # simulator steps of each run; long enough for the control to learn something
control = "dense"      # the arm to beat
seed = 0               # decides the seeds of every stage

# Settings of every arm. They learn faster on small tasks than the published ones.
learning_rate = 1e-3
tau = 0.02
actor = {{ width = 64, blocks = 1 }}

[train]
batch_size = 128
warmup_interactions = 500
evaluate_every = 10_000
evaluation_episodes = {evaluation_episodes}
probe_every = 5_000
checkpoint_every = 5_000

# The control: what you would use without kanbatsu.
[arm.dense]
critic = {{ width = 128 }}

# The candidates: every width with every sparsity. Each is tried with a few seeds, the better half
# again with twice as many, and so on, until `finalists` of them are left.
[search]
network = "critic"
widths = [128, 256]
sparsities = [0.5, 0.8, 0.9]
seeds = 2
finalists = 1

# The verdict is taken from fresh seeds: those of the search chose the winner and cannot judge it.
[confirm]
seeds = 5

# The time available. After a pilot of a few seconds per arm, a plan that needs more is refused.
[budget]
hours = 2.0
workers = 2

# If even the best candidate's interval lies below the threshold, the confirmation is left out.
[stop]
hopeless = true

# The decision rule, fixed before the first run. "better": adopt if the whole 95% interval of the
# difference in mean final return lies above minimum_effect. "no_worse": adopt a smaller network
# if its return is shown to be at most maximal_regression lower.
[decision]
goal = "better"
measure = "mean_difference"
minimum_effect = 0.0
# goal = "no_worse"
# maximal_regression = 20.0    # in the unit of the return
# saves = "kept"
"""


def template(task: str, file: str) -> str:
    """Return a commented plan for a task.

    Args:
        task: As users type it.
        file: Where it will lie, for the command in it.

    Example:
        >>> 'tasks = ["gym/Pendulum-v1"]' in template("gym/Pendulum-v1", "poc.toml")
        True
    """
    question = f"On {task}, is a sparse critic better than a dense one?"
    quoted = {"task": json.dumps(task), "question": json.dumps(question, ensure_ascii=False)}
    return TEMPLATE.format(file=file, evaluation_episodes=5, **quoted)


def write_template(task: str, file: Path) -> None:
    """Write a commented plan for a task to a file.

    Raises:
        RecordError: The file exists.
    """
    if file.exists():
        raise RecordError(f"{file} exists already; give another --file, or remove it")
    file.write_text(template(task, str(file)), encoding="utf-8")
