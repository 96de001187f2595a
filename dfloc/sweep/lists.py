"""Which samples the trials of a study are trained, validated and tested on: their lists, each under its digest."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from dfloc.config import SampleList
from dfloc.data import dolos
from dfloc.data.manifest import SampleRef
from dfloc.data.mixture import Mixture, as_list, by_rank, ranked, replayed, select
from dfloc.errors import ConfigError
from dfloc.sweep import counts
from dfloc.sweep.cell import Cell, Study
from dfloc.sweep.data import Data
from dfloc.sweep.train_keys import Number


class TrainLists(NamedTuple):
    """What a cell is trained on.

    Attributes:
        train: all of it.
        labelled: the part of which the labels alone are read, and say less than masks; none: all masks are read.
        is_weak: whether that is all of which masks say more.
    """

    train: SampleList
    labelled: SampleList | None = None
    is_weak: bool = False


class StudyLists:
    """The lists of a study's samples.

    Args:
        study: the cells.
        data: what they are planned against.
        limit: largest number of test images of a domain.

    Attributes:
        by_digest: the samples of every list, by its digest.
    """

    def __init__(self, study: Study, data: Data, limit: int | None = None):
        self._study, self._data, self._limit = study, data, limit
        self.by_digest: dict[str, list[SampleRef]] = {}
        self._samples = ranked(data.samples)
        self._parents = cache(lambda digest, seed: by_rank(self.by_digest[digest], seed))

    def train(self, cell: Cell, base: SampleList | None, avoid: Collection[str]) -> TrainLists:
        """Return what a cell is trained on.

        Args:
            cell: that asks for it.
            base: what the cell that it starts from was trained on, for `replay`.
            avoid: photographs that ancestors saw, for `pairing: disjoint`.

        Raises:
            ConfigError: there is nothing to replay, or labels are shuffled that are all alike.
            DataError: fewer images than asked.
        """
        ask = cell.train
        mixture = Mixture(
            counts=self._own(cell),
            split="train",
            pairing=ask.pairing,
            seed=cell.axes["draw"],
            within=ask.within,
            skip=cell.skipped,
        )
        asked = mixture.model_dump(exclude_defaults=True) | ({"mode": ask.mode} if ask.mode != "restart" else {})
        if ask.labels and not ask.labels.is_empty:
            return self._with_labels(cell, mixture, avoid)
        refs = select(self._samples, mixture, avoid)
        if ask.replay == "none":
            return TrainLists(self.keep(refs, asked))
        if base is None:
            raise ConfigError(f"stage {cell.stage}: replay needs a parent; add `from: STAGE`")
        refs += replayed(self._parents(base.digest, mixture.seed), len(refs))
        return TrainLists(self.keep(refs, {**asked, "replay": base.digest}))

    def _own(self, cell: Cell) -> dict[str, int]:
        """Return how many images of each domain a cell is trained on with their masks."""
        asked = self._counts(cell.train.count, self.names(cell.train.domains, cell))
        return {domain: count - cell.skipped for domain, count in asked.items() if count}

    def valid(self, cell: Cell) -> SampleList:
        """Return what a cell is validated on."""
        numbers = self._counts(cell.train.valid, self.names(cell.train.judges, cell))
        return self.list(Mixture(counts=numbers, split="valid", seed=cell.axes["draw"]))

    def test(self, domain: str) -> SampleList:
        """Return the test images of a domain, as many as the study scores."""
        limits = [count for count in (self._study.ask.evaluate.count, self._limit) if isinstance(count, int)]
        count: int | None = min(limits) if limits else None
        facts = self._data.facts(domain).get("test")
        if facts and count is not None:
            count = min(count, facts.images)
        return self.list(Mixture(counts={domain: count}, split="test"))

    def list(self, mixture: Mixture) -> SampleList:
        """Return the list of a mixture."""
        return self.keep(select(self._samples, mixture), mixture.model_dump(exclude_defaults=True))

    def keep(self, refs: Iterable[SampleRef], asked: Mapping[str, object]) -> SampleList:
        """Return a list of samples that were chosen as it was asked."""
        chosen = list(refs)
        digest = self._data.digest(chosen, asked)
        self.by_digest[digest] = sorted(chosen, key=lambda ref: ref.id)
        return as_list(chosen, digest, asked)

    def names(self, asked: str | tuple[str, ...], cell: Cell) -> Sequence[str]:
        """Return the domains that a field of a cell names."""
        return counts.names(asked, cell.stage, cell.axes, self._study.ask.domains, self._data)

    def _counts(self, asked: Number | Mapping[str, Number], names: Sequence[str]) -> dict[str, int]:
        found = counts.by_domain(asked, names, self._study.ask.domains)
        return {name: number for name, number in found.items() if number != "all"}  # a cell has a number for each

    def _with_labels(self, cell: Cell, mixture: Mixture, avoid: Collection[str]) -> TrainLists:
        """Return lists of images with masks and of others with labels, which follow those in the order of the ranks."""
        labels = cell.train.labels
        assert labels is not None
        numbers = counts.labelled(labels, cell.stage, cell.axes, self._study.ask.domains, self._data)
        masked = select(self._samples, mixture, avoid) if mixture.counts else []
        weak: list[SampleRef] = []
        for domain, number in numbers.items():
            after = {"counts": {domain: number}, "skip": mixture.skip + (mixture.counts.get(domain) or 0)}
            weak += select(self._samples, mixture.model_copy(update=after), avoid)
        asked = mixture.model_dump(exclude_defaults=True) | {"labels": {"counts": numbers, "kind": labels.kind}}
        train = self.keep(masked + weak, asked)
        if labels.kind == "shuffled" and len({dolos.is_real(ref.domain) for ref in weak}) < 2:
            with cell.blames("train.labels"):
                raise ConfigError(
                    "train.labels.targets: shuffled moves no label: all are alike; add real, or a domain of fakes"
                )
        told = weak if labels.kind == "shuffled" else [ref for ref in weak if self._says_more(ref)]
        if not told:
            return TrainLists(train)
        if labels.kind == "own" and not any(map(self._says_more, masked)):
            return TrainLists(train, is_weak=True)
        return TrainLists(train, self.keep(told, {**asked, "part": "labels"}))

    def _says_more(self, ref: SampleRef) -> bool:
        """Return whether a sample's mask says more than its label: it is partly generated."""
        return self._data.kinds.get(ref.domain, "local") == "local"
