"""What differs between trainings beside what is compared: a difference that has such a thing answers no question."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dfloc.config import TrialSpec
from dfloc.report import recipe
from dfloc.report.words import label

RECORDED = ("lineage", "train.asked", "valid.asked")  # what determines nothing
NONE = "-"
WHOLE: Mapping[str, Callable[[TrialSpec], str]] = {  # fields that are one word to a reader
    "maps": lambda spec: recipe.maps(spec) or "pixels",
    "loss": lambda spec: recipe.loss(spec.loss),
    "augment": lambda spec: recipe.augment(spec.augment),
}
LISTS = {"train": "training images", "valid": "validation images"}
DIGEST = re.compile("(random:)?[0-9a-f]{64}")


class Field(NamedTuple):
    """Something that differs: a field of a spec by its path, or in words, and its value on either side."""

    path: str
    a: str
    b: str


def fields(a: TrialSpec, b: TrialSpec) -> list[Field]:
    """Return the fields that differ, in the order of the spec, and the optimiser steps that follow from them.

    What is only recorded is left out.
    """
    flat_a, flat_b = (dict(_flat(spec.model_dump(mode="json"))) | {"steps": str(spec.steps)} for spec in (a, b))
    paths = dict.fromkeys([*flat_a, *flat_b])
    found = (Field(path, flat_a.get(path, NONE), flat_b.get(path, NONE)) for path in paths)
    return [field for field in found if field.a != field.b]


def besides(
    a: TrialSpec | Sequence[TrialSpec], b: TrialSpec | Sequence[TrialSpec], compared: Collection[str] = ()
) -> list[Field]:
    """Return what differs, in words, beside what is compared; empty where a difference of the two is an answer.

    Args:
        a: a training, or those of a column of differences.
        b: its other side; as many, in the same order.
        compared: fields of the spec in which the two are meant to differ (`init`, `train`, `optimizer.lr`), and `steps`
            where the length is what is compared.

    Returns:
        Steps first, then in the order of the spec. Of several pairs the values of those that differ, from the smallest
        to the largest; none on both sides where they say nothing to a reader, such as digests.
    """
    first, second = ([side] if isinstance(side, TrialSpec) else side for side in (a, b))
    found: dict[str, tuple[list[str], list[str]]] = {"steps": ([], [])}
    for one, other in zip(first, second, strict=True):
        for field in _told(one, other, compared):
            for side, value in zip(found.setdefault(field.path, ([], [])), (field.a, field.b), strict=True):
                side.append(value)
    return [Field(name, _span(one), _span(other)) for name, (one, other) in found.items() if one]


def words(found: Sequence[Field]) -> str:
    """Return what differs as a reader has it: steps 40 / 80, epochs 4 / 8; empty where nothing does."""
    return ", ".join(f"{name} {a} / {b}" if a != b else f"other {name}" for name, a, b in found)


def _told(a: TrialSpec, b: TrialSpec, compared: Collection[str]) -> Iterator[Field]:
    """Yield what differs between two trainings, each list of images and the start as one."""
    lists = {name: (getattr(a, name), getattr(b, name)) for name in LISTS}
    seen = set[str]()
    for path, *values in fields(a, b):
        top = path.partition(".")[0]
        if top in compared or path in compared or top in seen:
            continue
        if top in LISTS:
            if lists[top][0].digest != lists[top][1].digest:
                yield Field(LISTS[top], *(f"{side.size:,}" for side in lists[top]))
            seen.add(top)
        elif top == "init":
            yield Field(label(top), "", "")
            seen.add(top)
        elif top in WHOLE and (both := [WHOLE[top](side) for side in (a, b)])[0] != both[1]:
            yield Field(label(top), *both)
            seen.add(top)
        else:
            name = label(path)
            yield Field(name, *(["", ""] if any(map(DIGEST.fullmatch, values)) else map(_shown, values)))


def _shown(value: str) -> str:
    return f"{int(value):,}" if value.isdigit() else "none" if value == NONE else value


def _span(values: Sequence[str]) -> str:
    """Return several values as one: from the smallest to the largest where they are numbers."""
    distinct = list(dict.fromkeys(values))
    try:
        distinct = sorted(distinct, key=lambda value: float(value.replace(",", "")))
    except ValueError:
        return ", ".join(distinct)
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]} … {distinct[-1]}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, value) of every leaf; lists of plain values are leaves."""
    if path in RECORDED:
        return
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flat(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for index, part in enumerate(value):
            yield from _flat(part, f"{path}.{index}")
    elif value is None or value in ({}, []):
        yield path, NONE
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)
