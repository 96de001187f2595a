"""The one name of a trial, on screen, in MLflow, in reports and in commands, and the words that find it."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class Name(NamedTuple):
    """A trial's name.

    Attributes:
        text: its words, as a person reads them.
        words: in small letters, those of the text and the longer ones that mean the same.
    """

    text: str
    words: frozenset[str]

    @property
    def own(self) -> frozenset[str]:
        """The words of the text, in small letters."""
        return frozenset(self.text.casefold().split())


def of(stage: str, case: str, axes: Mapping[str, Any], domains: Collection[str]) -> Name:
    """Return the name that tells a trial from its siblings: `n=16 lama finetune seed=0`.

    A table of MLflow shows the first 16 letters or so: numbers come first, then the domain, the stage, and what is
    left. A domain is called by its generator alone where no other of the trial's has it, and without its axis where no
    other axis has a domain; an axis by its last part where no other ends alike. The first draw is not named.

    Args:
        stage: the stage's name.
        case: the case's; empty: none.
        axes: value of every axis.
        domains: all that the trial has to do with.
    """
    generators = [domain.rpartition("/")[2] for domain in domains]
    ends = [axis.rpartition(".")[2] for axis in axes]
    placed = [axis for axis, value in axes.items() if isinstance(value, str) and value in domains]
    numbers, named, rest, more = list[str](), list[str](), list[str](), list[str]()
    for axis, value in axes.items():
        end = axis.rpartition(".")[2]
        short = end if ends.count(end) == 1 else axis
        said = f"{short}={word(value)}"
        more += [said, f"{end}={word(value)}", f"{axis}={word(value)}"]
        if axis in placed:
            generator = value.rpartition("/")[2]
            bare = generator if generators.count(generator) == 1 else value
            named.append(bare if len(placed) == 1 else f"{short}={bare}")
            more += [named[-1], f"{axis}={bare}", *([bare, value] if len(placed) == 1 else [])]
        elif axis in ("seed", "draw") or isinstance(value, bool) or not isinstance(value, int | float):
            rest += [said] if axis != "draw" or value else []
        else:
            numbers.append(said)
    text = " ".join([*numbers, *named, *(part for part in (stage, case) if part), *rest])
    return Name(text, frozenset(f"{text} {' '.join(more)}".casefold().split()))


def word(value: Any) -> str:
    """Return the value of an axis as one word: `0.001`, `a/1+b/2`, `focal(gamma=2)`."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "+".join(map(word, value))
    if isinstance(value, Mapping):
        fields = ",".join(f"{key}={word(part)}" for key, part in value.items() if key != "name")
        return f"{value['name']}({fields})" if "name" in value and fields else str(value.get("name", f"({fields})"))
    return re.sub(r"\s+", "-", str(value).strip()) or "none"
