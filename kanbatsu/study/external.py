"""Arms that are trained by a function of the user's: `train = "package.module:function"`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kanbatsu.files.tables import RecordError
from kanbatsu.report.gather import EXTERNAL
from kanbatsu.run.external import ExternalConfig, ExternalSchedule
from kanbatsu.study.plan import Arm

OURS = ("agent", "match", "remedy", "residual")
"""Keys of an arm that only kanbatsu's own training understands."""


def is_external(defaults: Mapping[str, Any], table: Mapping[str, Any]) -> bool:
    """Return whether an arm is trained by a function of the user's.

    Args:
        defaults: Settings that all arms share.
        table: Settings of the arm.

    Example:
        >>> is_external({"train": "mine:train"}, {})
        True
        >>> is_external({"train": "mine:train"}, {"train": {"batch_size": 32}})
        False
    """
    return isinstance(table.get("train", defaults.get("train")), str)


def external_arm(name: str, defaults: Mapping[str, Any], table: Mapping[str, Any]) -> Arm:
    """Read an arm that is trained by a function of the user's.

    Args:
        name: Name of the arm.
        defaults: Settings that all arms share, all of which the function is given.
        table: Settings of the arm, laid over them.

    Raises:
        RecordError: It has keys that only kanbatsu's own training understands, one line each.
    """
    settings = {**defaults, **table}
    function = settings.pop("train")
    if unfit := [key for key in OURS if key in settings]:
        raise RecordError(
            "\n".join(
                f"arm.{name}.{key}: is for trainings by kanbatsu; this arm is trained by "
                f"{function!r}, which knows nothing of it"
                for key in unfit
            )
        )
    config = ExternalConfig(function, name, settings)
    return Arm(EXTERNAL, config, ExternalSchedule())
