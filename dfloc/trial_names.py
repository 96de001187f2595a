"""The one name of a trial, on screen, in MLflow, in reports and in commands, and the words that find it."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from dfloc.axis import Value

PLACED = ("held_out", "domain", "left_out")
"""Axes whose values are domains."""

POINT = "point"
"""The axis that numbers the points of a search, in the order of suggestion: it tells no trial from another."""

USUAL = re.compile("^(celebahq|mini)/(?=[^/]+$)")
"""Of Dolos and of the built-in data: no generator is of both, so that it stands alone."""


class TrialName(NamedTuple):
    """A trial's name.

    Attributes:
        text: its words, as a person reads them.
        words: in small letters, those of the text and others that mean the same.
    """

    text: str
    words: frozenset[str]

    @property
    def own(self) -> frozenset[str]:
        """The words of the text, in small letters."""
        return frozenset(self.text.casefold().split())


def of(stage: str, case: str, axes: Mapping[str, Value]) -> TrialName:
    """Return the name that tells a trial from its siblings: `n=16 lama finetune seed=0`.

    A table of MLflow shows the first 16 letters or so: numbers come first, then the domain, the stage, and what is
    left. It rests on these alone, and on nothing that another start of the sweep may plan otherwise. A domain is named
    without its axis where no other axis has one; an axis by its last part where no other ends alike. The first draw is
    not named, and a number that a search has drawn is rounded: its point tells it from others.

    Args:
        stage: the stage's name.
        case: the case's; empty: none.
        axes: value of every axis.
    """
    ends = [axis.rpartition(".")[2] for axis in axes]
    placed = [axis for axis in PLACED if isinstance(axes.get(axis), str)]
    numbers, named, rest, more = list[str](), list[str](), list[str](), list[str]()
    for axis, value in axes.items():
        end = axis.rpartition(".")[2]
        short = end if ends.count(end) == 1 else axis
        full = word(value)
        shown = f"{value:g}" if POINT in axes and isinstance(value, float) else full
        if axis in placed:
            parts = shown.split("+")
            shown = "+".join(USUAL.sub("", part) for part in parts)
            bare = "+".join(part.rpartition("/")[2] for part in parts)
            more += [f"{axis}={one}" for one in (bare, shown, full)] + ([bare, full] if len(placed) == 1 else [])
            named.append(shown if len(placed) == 1 else f"{axis}={shown}")
            continue
        more += [f"{one}={each}" for one in (end, axis) for each in (shown, full)]
        if axis in ("seed", "draw") or isinstance(value, str):
            rest += [f"{short}={shown}"] if axis != "draw" or value else []
        else:
            numbers.append(f"{short}={shown}")
    text = " ".join([*numbers, *named, *(word(part) for part in (stage, case) if part), *rest])
    return TrialName(text, frozenset(f"{text} {' '.join(more)}".casefold().split()))


def word(value: Value) -> str:
    """Return a value as one word: `0.001`, `a/1+b/2`, `focal(gamma=2,weight=3)`."""
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return re.sub(r"\s+", "-", joined(str(value)).strip()) or "none"


def joined(text: str) -> str:
    """Return a text without the blanks around the signs that join its parts."""
    return re.sub(r"\s*([,+])\s*", r"\1", text)
