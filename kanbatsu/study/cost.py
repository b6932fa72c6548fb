"""Prices that a study may name, so that it speaks of money: all optional, none assumed."""

from __future__ import annotations

from dataclasses import dataclass

from kanbatsu.ranges import NotNegative, Positive, check_ranges


@dataclass(frozen=True)
class Cost:
    """Prices and numbers of whoever pays; what is left out is not spoken of."""

    currency: str
    """Currency of every price: a code such as JPY, USD or EUR, or any word."""
    core_hour: NotNegative | None = None
    """Price of one hour of one processor core."""
    gpu_hour: NotNegative | None = None
    """Price of one hour of one GPU, which runs on a GPU are charged instead of cores."""
    watts: Positive | None = None
    """Power that one run draws, in watts: an estimate, unless it was metered."""
    kilowatt_hour: NotNegative | None = None
    """Price of a kilowatt-hour of energy, beside the price of hours; needs `watts`."""
    delay_hour: NotNegative | None = None
    """Price of an hour by which the decision comes later."""
    return_unit: Positive | None = None
    """Value of one unit of return in one episode; needs `per_year`."""
    per_year: Positive | None = None
    """Number of episodes in service in a year, such as machines times shifts; needs
    `return_unit`."""
    per_year_of: str | None = None
    """Noun for what `per_year` counts, such as "machine shifts"."""


def cost_problems(cost: Cost) -> list[str]:
    """Say what is wrong with prices, one line per mistake.

    Example:
        >>> cost_problems(Cost("JPY", core_hour=-3.0))
        ['cost.core_hour must be at least 0: got -3.0']
        >>> cost_problems(Cost("JPY", kilowatt_hour=30.0))
        ['cost.watts: must be given beside kilowatt_hour: how much power does a run draw?']
    """
    problems = []
    try:
        check_ranges(cost, "cost.")
    except ValueError as error:
        problems.append(str(error))
    if not cost.currency.strip():
        problems.append("cost.currency: must name a currency, such as JPY")
    if cost.kilowatt_hour is not None and cost.watts is None:
        problems.append(
            "cost.watts: must be given beside kilowatt_hour: how much power does a run draw?"
        )
    if cost.return_unit is not None and cost.per_year is None:
        problems.append(
            "cost.per_year: must be given beside return_unit: how many episodes a year?"
        )
    if cost.per_year is not None and cost.return_unit is None:
        problems.append("cost.return_unit: must be given beside per_year: what is one worth?")
    if cost.per_year_of is not None and cost.per_year is None:
        problems.append("cost.per_year: must be given beside per_year_of: how many of them?")
    return problems
