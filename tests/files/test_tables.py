"""Records: what comes back is what went in, and every mistake has a message that helps."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from kanbatsu.agents.ddpg import DDPGConfig
from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.files.tables import (
    RecordError,
    canonical_hash,
    from_dict,
    merge,
    parse_override,
    to_dict,
)


@dataclass(frozen=True)
class Inner:
    width: int = 4
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    limit: float | None = None
    flag: bool = False
    sizes: tuple[int, ...] = ()
    inner: Inner = field(default_factory=lambda: Inner(width=9))


@pytest.mark.parametrize("record", [SACConfig(), DDPGConfig(tau=0.1), TrainConfig(batch_size=8)])
def test_what_went_in_comes_back(record: Any) -> None:
    assert from_dict(type(record), to_dict(record)) == record


def test_a_record_becomes_nested_tables_and_lists() -> None:
    assert to_dict(Outer("x", sizes=(1, 2))) == {
        "name": "x",
        "rate": 0.5,
        "limit": None,
        "flag": False,
        "sizes": [1, 2],
        "inner": {"width": 9, "kind": "a"},
    }


def test_a_nested_table_starts_from_the_default_of_its_field() -> None:
    # The actor of SAC is 128 wide; NetworkConfig alone would be 512.
    config = from_dict(SACConfig, {"actor": {"sparsity": 0.5}})
    assert (config.actor.width, config.actor.blocks, config.actor.sparsity) == (128, 1, 0.5)
    assert from_dict(Outer, {"name": "x", "inner": {"kind": "b"}}).inner == Inner(9, "b")


def test_a_float_that_is_whole_may_stand_for_an_integer_and_becomes_one() -> None:
    outer = from_dict(Outer, {"name": "x", "sizes": [1e5, 2], "inner": {"width": 2e3}})
    assert [(type(n), n) for n in (*outer.sizes, outer.inner.width)] == [
        (int, 100_000),
        (int, 2),
        (int, 2_000),
    ]


def test_an_integer_may_stand_for_a_float_and_becomes_one() -> None:
    outer = from_dict(Outer, {"name": "x", "rate": 1, "limit": 2})
    assert (type(outer.rate), type(outer.limit)) == (float, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "name: must be given"),
        ({"name": 3}, "name: must be a string, not 3"),
        ({"name": "x", "rate": "fast"}, "rate: must be a number, not 'fast'"),
        ({"name": "x", "rate": True}, "rate: must be a number, not True"),
        ({"name": "x", "rate": float("nan")}, "rate: must be a finite number, not nan"),
        ({"name": "x", "flag": 1}, "flag: must be true or false, not 1"),
        ({"name": "x", "rate": None}, "rate: must be a number, not None"),
        ({"name": "x", "sizes": 3}, "sizes: must be a list such as [...], not 3"),
        ({"name": "x", "sizes": [1, 2.5]}, "sizes[1]: must be a whole number, not 2.5"),
        ({"name": "x", "inner": 5}, "inner: must be a table of settings, not 5"),
        ({"name": "x", "inner": {"width": 1e30}}, "inner.width: must be a whole number, not 1e+30"),
        ({"name": "x", "inner": {"width": True}}, "inner.width: must be a whole number, not True"),
        ({"name": "x", "inner": {"kind": "c"}}, "inner.kind: must be one of 'a', 'b', not 'c'"),
        ({"name": "x", "inner": {"kind": ["a"]}}, "inner.kind: must be one of 'a', 'b', not ['a']"),
        ({"name": "x", "raet": 1}, "raet: unknown setting. Did you mean 'rate'?"),
        (
            {"name": "x", "inner": {"zzz": 1}},
            "inner.zzz: unknown setting. Choose from: kind, width.",
        ),
    ],
)
def test_a_mistake_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError) as caught:
        from_dict(Outer, table)
    assert str(caught.value) == message


def test_all_mistakes_are_named_at_once_with_their_place() -> None:
    with pytest.raises(RecordError) as caught:
        from_dict(Outer, {"flag": 1, "inner": {"widht": 1}}, where="arm.dense")
    assert str(caught.value).splitlines() == [
        "arm.dense.name: must be given",
        "arm.dense.flag: must be true or false, not 1",
        "arm.dense.inner.widht: unknown setting. Did you mean 'width'?",
    ]


def test_merge_changes_neither_table() -> None:
    below, above = {"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}, "b": {"z": 1}}
    assert merge(below, above) == {"a": {"x": 1, "y": 5}, "b": {"z": 1}}
    assert below == {"a": {"x": 1, "y": 2}, "b": 3}
    assert above == {"a": {"y": 5}, "b": {"z": 1}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1024", 1024),
        ("a.b=100_000", 100_000),
        ("a.b=0.5", 0.5),
        ("a.b=1e-4", 1e-4),
        ("a.b=true", True),
        ("a.b=[1, 2]", [1, 2]),
        ('a.b="ddpg"', "ddpg"),
        ("a.b=ddpg", "ddpg"),
        ("a.b=x=y", "x=y"),
        ("a.b={ c = 1 }", {"c": 1}),
    ],
)
def test_an_override_is_written_as_in_toml(text: str, value: Any) -> None:
    path, parsed = parse_override(text)
    assert (path, parsed, type(parsed)) == (("a", "b"), value, type(value))


@pytest.mark.parametrize("text", ["width", "=3", "a..b=3"])
def test_an_override_needs_a_key_and_a_value(text: str) -> None:
    with pytest.raises(RecordError, match="is not an override: write KEY=VALUE"):
        parse_override(text)


def test_a_hash_changes_with_any_value_and_with_no_order() -> None:
    assert canonical_hash({"a": [1, {"b": 2, "c": 3}]}) == canonical_hash(
        {"a": [1, {"c": 3, "b": 2}]}
    )
    assert canonical_hash({"a": 1}) != canonical_hash({"a": 1.0})
