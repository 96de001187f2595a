import pytest
import yaml

from dfloc.sweep import scalars


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
    assert scalars.load(text) == text
    assert scalars.load(f"a: [{text}]") == {"a": [text]}


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
    read = scalars.load(text)
    assert (read, type(read)) == (value, type(value))


def test_anchors_and_merges_are_read_and_a_key_stands_once() -> None:
    assert scalars.load("a: &a {b: 1}\nc: {<<: *a, d: 2}") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
    with pytest.raises(yaml.MarkedYAMLError, match="key a twice"):
        scalars.load("a: 1\na: 2")
    with pytest.raises(yaml.YAMLError):
        scalars.load("!!python/object/apply:os.system [true]")
