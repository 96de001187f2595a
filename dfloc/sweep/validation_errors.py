"""What pydantic finds wrong with a sweep file, in words of the file."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from dfloc.errors import ConfigError, WorkspaceError, did_you_mean
from dfloc.sweep.sweep_keys import NAMED, field_names
from dfloc.sweep.yaml_text import cut, shown

# Where a field may be of several types, pydantic names the type that it tried inside the path of the field.
UNION_BRANCH = re.compile(r"constrained-\w+|int|str|\w+\[.*|\[key\]")

MAX_TOLD = 4  # mistakes in one message

# What a field should be, by the kind of pydantic's mistake.
WANTED = {
    "int_type": "should be a whole number in plain digits, as in 3, without quotes",
    "float_type": "should be a number in plain digits, as in 3 or 1e-3, without quotes",
    "finite_number": "should be a finite number in plain digits, as in 3 or 1e-3, without quotes",
    "string_type": "should be a text; put it in quotes",
    "string_too_short": "should be a word, or be left out",
    "too_short": "should have one entry at least",
    "tuple_type": "should be a list, as in [a, b]",
    "dict_type": "should be a mapping, as in {key: value}",
    "model_type": "should be a mapping, as in {key: value}",
    "int_parsing": "should be a whole number in plain digits, as in 3",
    "int_parsing_size": "should be a whole number of fewer digits",
    "float_parsing": "should be a number in plain digits, as in 3 or 1e-3",
    "string_pattern_mismatch": f"should be named by {NAMED.replace(' +', '')}",
}
# The same where a bound is told with it.
BOUNDS = {
    "less_than_equal": "should be at most {le:,}",
    "too_long": "should have at most {max_length:,} entries",
}
ORDER = ("extra_forbidden", "missing")


@contextmanager
def blamed(where: Callable[[], str]) -> Iterator[None]:
    """Put before what is said of a wrong value where it was given."""
    try:
        yield
    except (ConfigError, WorkspaceError) as error:
        raise ConfigError(f"{where()}: {error}") from error


@dataclass(frozen=True)
class Mistake:
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

    @property
    def path(self) -> str:
        """Its keys with dots."""
        return ".".join(cut(str(part)) for part in self.loc)

    def sentence(self, model: type[BaseModel]) -> str:
        """Return it in words, but for a missing key; `model`: what was checked."""
        if self.kind == "extra_forbidden":
            above, word = self.path.rpartition(".")[0] or "the sweep", str(self.loc[-1])
            return f'unknown key "{cut(word)}" in {above}; {did_you_mean(word, field_names(model, self.loc[:-1]))}'
        return f"{self.path}: {self.why}, but it is {shown(self.value)}"


def sentences(found: Sequence[tuple[str, Mistake]], model: type[BaseModel]) -> str:
    """Return mistakes and where they stand in one sentence: all keys that are missing, and the first few others."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for place, one in found:
        kind = "missing" if one.kind == "missing" else one.path
        by_place.setdefault((place, kind), []).append(one.path if one.kind == "missing" else one.sentence(model))
    lines: dict[str, list[str]] = {}
    for (place, kind), whats in [*by_place.items()][:MAX_TOLD]:
        verb = "are" if len(whats) > 1 else "is"
        lines.setdefault(place, []).append(f"{listed(whats)} {verb} missing" if kind == "missing" else whats[0])
    more = f"; and {len(by_place) - MAX_TOLD} mistakes more" if len(by_place) > MAX_TOLD else ""
    return "; ".join(f"{place}: {'; '.join(whats)}" for place, whats in lines.items()) + more


def listed(words: Sequence[str]) -> str:
    """Return words as one says them: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def distinct(error: ValidationError) -> list[Mistake]:
    """Return each mistake once: unknown keys, then what is missing, then wrong values."""
    found: dict[tuple[str | int, ...], Mistake] = {}
    for one in error.errors():
        loc = tuple(part for part in one["loc"] if not UNION_BRANCH.fullmatch(str(part)))
        why = _why(one["type"], one["msg"], one.get("ctx", {}))
        if loc in found:
            why = found[loc].why if why in found[loc].why else f"{found[loc].why}, or {why}"
        found[loc] = Mistake(loc, one["type"], why, one["input"])
    deeper = {loc[:length] for loc in found for length in range(len(loc))}
    return sorted(
        (one for loc, one in found.items() if loc not in deeper),
        key=lambda one: ORDER.index(one.kind) if one.kind in ORDER else len(ORDER),
    )


def _why(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """Return what a value should be, by pydantic's words for a mistake."""
    if kind in BOUNDS:
        return BOUNDS[kind].format(**context)
    return WANTED.get(kind) or message.removeprefix("Value error, ").replace("Input should", "should")
