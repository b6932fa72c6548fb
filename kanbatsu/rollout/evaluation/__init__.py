"""Off-policy evaluation: what a candidate would return, from logs of another policy, or a refusal.

The control loop does not import this package.
"""

from kanbatsu.rollout.evaluation.candidates import Choices, Density
from kanbatsu.rollout.evaluation.evaluate import Estimate, Evaluation, evaluate
from kanbatsu.rollout.evaluation.log import Log, read_log

__all__ = ["Choices", "Density", "Estimate", "Evaluation", "Log", "evaluate", "read_log"]
