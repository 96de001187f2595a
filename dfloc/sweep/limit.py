"""`--limit`: the same study on fewer images, every count in proportion; and the largest one that some data have."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from dfloc.data.mixture import Split
from dfloc.errors import DataError
from dfloc.sweep.sweep_keys import TrainAsk

RULE = 2  # see SweepRecord.limit_rule


@dataclass(frozen=True)
class Scale:
    """`--limit`: a count c of training or validation becomes max(1, round(c * limit / largest)), half to even.

    Attributes:
        largest: training count that the study asks of a domain; a limit that is no less changes nothing.
    """

    limit: int
    largest: int

    def ask(self, train: TrainAsk) -> TrainAsk:
        """Return what is asked of the samples, scaled."""
        within = None if train.within is None else self.count(train.within)
        return train.model_copy(
            update={"count": self._all(train.count), "valid": self._all(train.valid), "within": within}
        )

    def count(self, value: int) -> int:
        """Return one count, scaled; a count is never raised."""
        return max(1, round(Fraction(value * self.limit, self.largest))) if self.limit < self.largest else value

    def _all(self, value: object) -> int | dict[str, int]:
        if isinstance(value, Mapping):
            return {key: self.count(item) for key, item in value.items()}
        assert isinstance(value, int)
        return self.count(value)


class Demand(NamedTuple):
    """Images of a domain's split that a study asks for before any limit, of the first `within` alone."""

    domain: str
    split: Split
    num: int
    within: int | None


def largest(asks: Sequence[TrainAsk]) -> int:
    """Return the largest training count that is asked of a domain."""
    counts = (ask.count.values() if isinstance(ask.count, dict) else [ask.count] for ask in asks)
    return max(count for each in counts for count in each if isinstance(count, int))


def refuse_short(demands: Collection[Demand], there: Mapping[tuple[str, Split], int], scale: Scale) -> None:
    """Return if there are as many images as a limit leaves.

    Args:
        demands: of every cell.
        there: images of each domain's split.
        scale: the limit; one that is no less than the largest count leaves all as it is.

    Raises:
        DataError: there are fewer; names every domain and split, and the largest limit that fits.
    """
    short = _short(demands, there, scale)
    if not short:
        return
    low, high = 0, min(scale.limit, scale.largest)  # the largest limit that fits is not below low, but below high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if not _short(demands, there, Scale(middle, scale.largest)) else (low, middle)
    lacks = "; ".join(
        f"{domain} has {has} {split} images, but the study asks for {wanted}"
        for (domain, split), (has, wanted) in short.items()
    )
    cure = f"scale every count down with --limit {low}" if low else "leave out what has none (--set domains=[...])"
    raise DataError(f"{lacks}; import more, or {cure}")


def _short(
    demands: Collection[Demand], there: Mapping[tuple[str, Split], int], scale: Scale
) -> dict[tuple[str, Split], tuple[int, int]]:
    """Return what there is too little of: how many images there are, and the most that are asked for."""
    found: dict[tuple[str, Split], tuple[int, int]] = {}
    for demand in sorted(demands, key=lambda one: (one.domain, one.split, one.num, one.within or 0)):
        wanted, has = scale.count(demand.num), there[demand.domain, demand.split]
        if demand.within is not None:
            has = min(has, scale.count(demand.within))
        if wanted > has:
            found[demand.domain, demand.split] = (has, wanted)
    return found
