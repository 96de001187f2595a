"""The value of an axis, frozen: a number or one text, whatever way it was written, to compare, sort and print."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Value = int | float | str

PLAIN = re.compile(r"[A-Za-z_$/@~][^\s,()\[\]=+\"']*")
WORDS = {"none": None, "true": True, "false": False}
LONGEST = 240  # letters of a text that a person may still read, and a store still takes
EXACT = 2**53  # whole numbers up to here are floats too


def frozen(value: Any) -> Value:
    """Return the one form of a value: a number (3.0 is 3), or a text.

    None, true and false are words. A mapping with a name is `focal(gamma=3)`, its keys in the order of their names, and
    `focal` where it has nothing else; another is `first=8, rest=4`. A list of words or mappings is `a/b + c/d`, another
    `[8, 4]`.

    Args:
        value: of JSON or YAML.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        text = _named(value) or _pairs(value) or "{}"
    elif isinstance(value, Sequence):
        words = all(isinstance(part, str | Mapping) for part in value)
        text = " + ".join(map(_inside, value)) if value and words else _inside(value)
    else:
        text = _inside(value)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}~{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return text


def order(value: Value) -> tuple[bool, float, str]:
    """Return what values are sorted by: numbers first, then texts."""
    return (True, 0.0, value) if isinstance(value, str) else (False, value, "")


def _inside(value: Any) -> str:
    """Return a part of a list or mapping; a text that could be taken for something else is quoted."""
    for word, meant in WORDS.items():
        if value is meant:
            return word
    if isinstance(value, Mapping):
        return _named(value) or f"({_pairs(value)})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_inside, value))}]"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and value not in WORDS else json.dumps(value)
    return str(frozen(value))


def _named(value: Mapping[Any, Any]) -> str:
    """Return a mapping that has a name as `name(key=value, ...)`; nothing of another."""
    name = value.get("name")
    if not isinstance(name, str) or not PLAIN.fullmatch(name):
        return ""
    rest = _pairs({key: item for key, item in value.items() if key != "name"})
    return f"{name}({rest})" if rest else name


def _pairs(value: Mapping[Any, Any]) -> str:
    return ", ".join(f"{key}={_inside(item)}" for key, item in sorted(value.items(), key=lambda pair: str(pair[0])))
