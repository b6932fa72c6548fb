"""Money and energy, from the prices in a study's `[cost]`: nothing is said that has no price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kanbatsu.report.language import Texts

Prices = Mapping[str, Any]
"""A `kanbatsu.study.cost.Cost` as a table."""


class Bill(NamedTuple):
    """What some hours of computing take; None where no price or power is known."""

    money: float | None
    kilowatt_hours: float | None


def bill(prices: Prices, hours: float, gpu: bool = False) -> Bill:
    """Return what some hours of computing cost.

    Args:
        prices: The study's; what is left out is not charged.
        hours: Hours of one core, or of one GPU.
        gpu: Whether they are hours of a GPU.

    Example:
        >>> prices = {"core_hour": 10.0, "watts": 50.0, "kilowatt_hour": 30.0}
        >>> bill(prices, 4.0)
        Bill(money=46.0, kilowatt_hours=0.2)
        >>> bill({"gpu_hour": 200.0}, 4.0)
        Bill(money=None, kilowatt_hours=None)
    """
    price = prices.get("gpu_hour" if gpu else "core_hour")
    watts, tariff = prices.get("watts"), prices.get("kilowatt_hour")
    energy = None if watts is None else hours * watts / 1000
    parts = [None if price is None else hours * price]
    parts.append(None if energy is None or tariff is None else energy * tariff)
    known = [part for part in parts if part is not None]
    return Bill(sum(known) if known else None, energy)


def value_per_year(prices: Prices, effect: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an effect is worth in a year, with its interval; None where no value is known.

    Args:
        prices: The study's.
        effect: The effect of a verdict; only a difference in the return's own unit has a value.

    Example:
        >>> effect = {"measure": "mean_difference", "value": 2.0, "interval": [-1.0, 5.0]}
        >>> value_per_year({"return_unit": 10.0, "per_year": 300.0}, effect)
        {'value': 6000.0, 'interval': [-3000.0, 15000.0]}
    """
    unit, count = prices.get("return_unit"), prices.get("per_year")
    priced = effect["measure"].endswith("difference") and effect["interval"] is not None
    if unit is None or count is None or not priced:
        return None
    low, high = (end * unit * count for end in effect["interval"])
    return {"value": effect["value"] * unit * count, "interval": [low, high]}


def money(value: float, prices: Prices, t: Texts, sign: str = "") -> str:
    """Write an amount of money.

    Args:
        value: The amount.
        prices: The study's, for the currency.
        t: The texts.
        sign: `+` to write a sign before gains too.

    Example:
        >>> from kanbatsu.report.language import texts
        >>> prices = {"currency": "JPY"}
        >>> money(1234.5, prices, texts("en")), money(0.5, prices, texts("ja"), "+")
        ('1,234 yen', '+0.50 円')
    """
    amount = f"{value:{sign},.0f}" if abs(value) >= 10 else f"{value:{sign}.2f}"
    return f"{amount} {currency(prices, t)}"


def currency(prices: Prices, t: Texts) -> str:
    """Return the name of the currency that prices are in."""
    code = prices["currency"]
    return t(f"currency.{code}") if t.has(f"currency.{code}") else code


def on_gpu(timing: Mapping[str, Any]) -> bool:
    """Whether the runs of a study ran on anything but processors."""
    devices = {machine.get("device", "cpu") for machine in timing.get("machines") or []}
    return bool(devices - {"cpu"})
