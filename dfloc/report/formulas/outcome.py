"""What a formula says of some tables: its numbers, and whether the claim holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dfloc.report.formulas.numbers import Matrix

OutcomeNumbers = Mapping[str, float | Sequence[float]]


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        holds: whether the claim holds by the numbers.
        numbers: by name; in the order of the domains where there are several.
        refused: why the numbers do not decide it all the same; empty where they do.
    """

    holds: bool
    numbers: OutcomeNumbers
    refused: str = ""


Formula = Callable[[Sequence[Matrix]], Outcome]
