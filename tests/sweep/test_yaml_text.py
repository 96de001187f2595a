from typing import Any

import pytest

from dfloc.errors import ConfigError
from dfloc.sweep.yaml_text import Text


def load(text: str) -> Any:
    """Return what a sweep file reads where this stands behind a key."""
    return Text(f"key: {text}", "sweep.yaml").values["key"]


@pytest.mark.parametrize(
    "text",
    [
        "010",
        "00",
        "on",
        "off",
        "yes",
        "No",
        "1:30",
        "0x10",
        "0b1",
        "0o17",
        "1_000",
        ".inf",
        "-.INF",
        ".nan",
        "nan",
        "1e400",
    ],
)
def test_what_looks_like_a_number_to_yaml_1_1_alone_is_the_text_that_it_is(text: str) -> None:
    assert load(text) == text
    assert load(f"[{text}]") == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-5", -5),
        ("0", 0),
        ("3.0", 3.0),
        ("1e-3", 1e-3),
        ("1.5e+3", 1500.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ('"3"', "3"),
        ("2026-11-29", "2026-11-29"),
        ("9" * 25, "9" * 25),
        ("9" * 9000, "9" * 9000),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_a_number_is_what_a_person_writes_as_one(text: str, value: object) -> None:
    read = load(text)
    assert (read, type(read)) == (value, type(value))


def test_anchors_and_merges_are_read_and_a_key_stands_once() -> None:
    assert load("{a: &a {b: 1}, c: {<<: *a, d: 2}}") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
    with pytest.raises(ConfigError, match='key "a" stands twice'):
        load("{a: 1, a: 2}")
    with pytest.raises(ConfigError, match="only plain values are read"):
        load("!!python/object/apply:os.system [true]")
