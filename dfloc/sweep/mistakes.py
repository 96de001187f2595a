"""What pydantic finds wrong with a sweep file, in words of the file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from dfloc.errors import did_you_mean
from dfloc.sweep.ask import NAMED, field_names

# Where a field may be of several types, pydantic names the type that it tried inside the path of the field.
UNION_BRANCH = re.compile(r"constrained-\w+|int|str|\w+\[.*|\[key\]")

MAX_SHOWN = 100  # characters of a wrong value

# What a field should be, by the kind of pydantic's mistake.
WANTED = {
    "int_type": "should be a whole number in plain digits, as in 3, without quotes",
    "float_type": "should be a number in plain digits, as in 3 or 1e-3, without quotes",
    "finite_number": "should be a finite number in plain digits, as in 3 or 1e-3, without quotes",
    "string_type": "should be a text; put it in quotes",
    "tuple_type": "should be a list, as in [a, b]",
    "dict_type": "should be a mapping, as in {key: value}",
    "model_type": "should be a mapping, as in {key: value}",
    "int_parsing": "should be a whole number in plain digits, as in 3",
    "int_parsing_size": "should be a whole number of fewer digits",
    "float_parsing": "should be a number in plain digits, as in 3 or 1e-3",
    "string_pattern_mismatch": f"should be named by {NAMED}",
}
ORDER = ("extra_forbidden", "missing")


@dataclass(frozen=True)
class Found:
    """One mistake.

    Attributes:
        loc: keys to the value, from the checked part on.
        kind: pydantic's name for it.
        why: what the value should be.
        value: what it is.
    """

    loc: tuple[str | int, ...]
    kind: str
    why: str
    value: Any

    def sentence(self, model: type[BaseModel]) -> str:
        """Return it in words; `model`: what was checked."""
        path = ".".join(str(part)[:MAX_SHOWN] for part in self.loc)
        if self.kind == "extra_forbidden":
            above, word = path.rpartition(".")[0] or "the sweep", str(self.loc[-1])
            return f'unknown key "{word}" in {above}; {did_you_mean(word, field_names(model, self.loc[:-1]))}'
        if self.kind == "missing":
            return f"{path} is missing"
        return f"{path}: {self.why}, but it is {shown(self.value)}"


def distinct(error: ValidationError) -> list[Found]:
    """Return each mistake once: unknown keys, then what is missing, then wrong values."""
    found: dict[tuple[str | int, ...], Found] = {}
    for one in error.errors():
        loc = tuple(part for part in one["loc"] if not UNION_BRANCH.fullmatch(str(part)))
        why = WANTED.get(one["type"]) or one["msg"].removeprefix("Value error, ")
        if loc in found and why not in found[loc].why:
            why = f"{found[loc].why}, or {why}"
        found[loc] = Found(loc, one["type"], why, one["input"])
    deeper = {loc[:length] for loc in found for length in range(len(loc))}
    return sorted(
        (one for loc, one in found.items() if loc not in deeper),
        key=lambda one: ORDER.index(one.kind) if one.kind in ORDER else len(ORDER),
    )


def shown(value: object) -> str:
    """Return a wrong value as a sweep file has it, its kind where it holds others."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "empty"
    text = repr(dict(value)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
