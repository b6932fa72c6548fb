"""Numbers as one says them in a meeting: differences, frequencies, durations."""

from __future__ import annotations

from fractions import Fraction

from kanbatsu.report.language import Texts
from kanbatsu.report.reasons import size

FINEST = 200
"""Largest number of repetitions that a frequency is said by."""


def apart(value: float, measure: str, t: Texts) -> str:
    """Say a difference without a sign.

    Args:
        value: The difference, in the unit of its measure.
        measure: One of `kanbatsu.report.effect.MEASURES`.
        t: The texts.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> [apart(value, "mean_difference", texts("en")) for value in (-10.1, 9.14, 0.001)]
        ['10.1 lower', '9.14 higher', 'the same']
    """
    amount = size(abs(value), measure, t)
    if amount == size(0.0, measure, t):
        return t("plain.same")
    return t("plain.lower" if value < 0 else "plain.higher", size=amount)


def beside(value: float, measure: str, control: str, t: Texts) -> str:
    """Say a difference from the control.

    Args:
        value: The difference, in the unit of its measure.
        measure: One of `kanbatsu.report.effect.MEASURES`.
        control: Name of the control.
        t: The texts.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> beside(0.2, "mean_relative", "dense", texts("en"))
        '20.0% higher than dense'
    """
    amount = size(abs(value), measure, t)
    if amount == size(0.0, measure, t):
        return t("plain.same_as", control=control)
    key = "plain.lower_than" if value < 0 else "plain.higher_than"
    return t(key, size=amount, control=control)


def repetitions(confidence: float) -> tuple[int, int]:
    """Return a confidence as so many out of so many.

    Example:
        >>> repetitions(0.95), repetitions(0.9), repetitions(0.99)
        ((19, 20), (9, 10), (99, 100))
    """
    share = Fraction(confidence).limit_denominator(FINEST)
    return share.numerator, share.denominator


def lasting(seconds: float, t: Texts) -> str:
    """Say how long something takes, in a unit that suits it.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> [lasting(seconds, texts("en")) for seconds in (90.0, 840.0, 14_400.0, 5e6)]
        ['90 seconds', '14 minutes', '4 hours', '58 days']
    """
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            count = seconds / length
            return t(f"lasting.{unit}", count=f"{count:.2g}" if count < 10 else f"{count:,.0f}")
    return t("lasting.seconds", count=f"{seconds:.0f}")
