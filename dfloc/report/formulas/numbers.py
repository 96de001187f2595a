"""A table of numbers that a formula reads: published or ours, by (test, train), or by row and column as printed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

LDM, REPAINT, LAMA, PLURALISTIC = (f"celebahq/{name}" for name in ("ldm", "repaint-p2-9k", "lama", "pluralistic"))
ALL = (LDM, REPAINT, LAMA, PLURALISTIC)
REAL = "celebahq/real"
CLASSES, OVERALL = (REAL, *ALL), "overall"  # of a classifier
DIFF, GAN = (LDM, REPAINT), (LAMA, PLURALISTIC)
TRAIN_ALL = "train_all_4"

Key = tuple[str | int, str | int]


class MissingError(LookupError):
    """A formula needs a number that is not there; the text says which."""


@dataclass(frozen=True)
class Matrix:
    """Numbers of one table.

    Attributes:
        id: of the published table.
        cells: by (test, train) where one axis is what was trained on, else by (row, column). Numbers that the
            references call suspect are not among them.
        domains: the test domains, in the order of tables.
        held_out: the domain that an exposure table is fine-tuned on.
        suspect: the numbers left out.
        mixed: keys of numbers whose row was made by another model than the rest of the table.
        absent: why a number may be missing.
    """

    id: str
    cells: Mapping[Key, float]
    domains: Sequence[str] = ALL
    held_out: str = ""
    suspect: Mapping[Key, float] = field(default_factory=dict)
    mixed: frozenset[Key] = frozenset()
    absent: str = ""

    def __bool__(self) -> bool:
        """Whether there is any number."""
        return bool(self.cells)

    def at(self, test: str | int, train: str | int) -> float:
        """Return one number.

        Raises:
            MissingError: it is not there.
        """
        if (test, train) in self.cells:
            return self.cells[test, train]
        unknown = [name for name in (test, train) if name in ALL and name not in self.domains]
        if unknown:
            raise MissingError(f"this study has no {unknown[0]}")
        raise MissingError(self.absent or f"no number for {test} and {train} of {self.id}")

    def mean(self, tests: Iterable[str | int], trains: Iterable[str | int]) -> float:
        """Return the mean over all pairs."""
        columns = list(trains)
        return mean([self.at(test, train) for test in tests for train in columns])

    def diag(self, domains: Iterable[str] | None = None) -> list[float]:
        """Return the numbers of models tested on the one domain that they were trained on."""
        return [self.at(domain, domain) for domain in (self.domains if domains is None else domains)]

    def off(self) -> list[float]:
        """Return the numbers of models of one domain on the others."""
        return [self.at(test, train) for train in self.domains for test in self.domains if test != train]

    def rows(self, col: str | int) -> dict[str | int, float]:
        """Return a column's numbers by row; those that are there."""
        return {row: value for (row, name), value in self.cells.items() if name == col}

    def columns(self, row: str | int) -> dict[str | int, float]:
        """Return a row's numbers by column; those that are there."""
        return {name: value for (first, name), value in self.cells.items() if first == row}


def without(domain: str) -> str:
    """Return what the documents call training on all domains but one."""
    return f"without-{domain.rpartition('/')[2]}"


def mean(values: Sequence[float]) -> float:
    """Return the plain mean.

    Raises:
        MissingError: there is no value.
    """
    if not values:
        raise MissingError("there is no number to average")
    return sum(values) / len(values)


def largest(values: Mapping[str, float]) -> str:
    """Return the name of the largest value.

    Raises:
        MissingError: there is no value.
    """
    if not values:
        raise MissingError("there is no number to compare")
    return max(values, key=lambda name: values[name])
