"""`--limit`: the same study on fewer images, every count in proportion."""

from collections.abc import Sequence
from dataclasses import dataclass

from dfloc.sweep.ask import TrainAsk


@dataclass(frozen=True)
class Scale:
    """`--limit`: a count c of a split whose largest count is L becomes max(1, round(c * limit / L))."""

    limit: int
    train: int
    valid: int

    @classmethod
    def of(cls, limit: int, asks: Sequence[TrainAsk]) -> "Scale":
        """Return the scale under which the largest count of each split becomes `limit`."""
        return cls(
            limit,
            max(n for ask in asks for n in [*_counts(ask.count), ask.within or 1]),
            max(n for ask in asks for n in _counts(ask.valid)),
        )

    def ask(self, train: TrainAsk) -> TrainAsk:
        """Return what is asked of the samples, scaled."""
        within = None if train.within is None else self.count(train.within, self.train)
        scaled = {"count": self._all(train.count, self.train), "valid": self._all(train.valid, self.valid)}
        return train.model_copy(update={**scaled, "within": within})

    def count(self, value: int, largest: int) -> int:
        """Return one count, scaled; a count is never raised."""
        return max(1, round(value * self.limit / largest)) if self.limit < largest else value

    def _all(self, value: int | dict[str, int], largest: int) -> int | dict[str, int]:
        if isinstance(value, int):
            return self.count(value, largest)
        return {key: self.count(item, largest) for key, item in value.items()}


def _counts(value: int | dict[str, int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value.values())
