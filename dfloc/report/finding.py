"""One thing that a study finds: a sentence, what it rests on, and the differences that decide it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dfloc.report.estimate import Estimate


class Finding(NamedTuple):
    """A sentence, without what its differences decide.

    Attributes:
        key: what it is about; once in a study.
        text: what it says, without an end, where its differences are decided.
        numbers: what it rests on, by name.
        differences: those that decide it, each with what is said of one that is not; None: there is none to tell. Of
            the first one the text speaks.
        plain: what it says in place of the text where that is not decided; empty: the same.
    """

    key: str
    text: str
    numbers: Mapping[str, Estimate | float] = {}
    differences: Sequence[tuple[Estimate | None, str]] = ()
    plain: str = ""
