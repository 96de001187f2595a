"""What augmented training costs before it is paid: images through the frozen backbones, and their storage."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dfloc.config import AugmentSpec, MapRecipe
from dfloc.data.augment import NAMED, digest, share_touched, views_of
from dfloc.features.store import PIXELS, bytes_of
from dfloc.record import PlannedTrial

Size = Callable[[frozenset[str]], int]


class Cost(NamedTuple):
    """Images through each backbone, and bytes of what is stored of them; nothing where all maps are `pixels`."""

    passes: dict[str, float]
    size: float

    def __str__(self) -> str:
        told = " and ".join(f"{count:.0f} images through {name}" for name, count in sorted(self.passes.items()))
        return f"{told}, {self.size / 1e9:.2f} GB"


@dataclass(frozen=True)
class Views:
    """The views of one augmentation that a sweep's trials read; images are counted as expected, by probability.

    Attributes:
        augment: its operations and seed.
        anew: whether some trial draws anew in each epoch.
        draws: number of views.
        largest: most training images of a view.
        all: what they cost together.
        one: what the first of them costs.
    """

    augment: AugmentSpec
    anew: bool
    draws: int
    largest: int
    all: Cost
    one: Cost

    def line(self) -> str:
        """Return what `--dry-run` says of it."""
        how = "drawn anew in each epoch" if self.anew else "taken in turn"
        share = share_touched(self.augment)
        head = f"views of {_name(self.augment)}: {self.draws}, {how}"
        if not self.all.passes:
            return f"{head}; pixels are changed as they are read, nothing is stored"
        each = "" if share == 1 else f"{share:g} x "
        told = f"{head}: {self.draws} x {each}{self.largest} images = {self.all}"
        return told if self.draws == 1 else f"{told}; with views: 1, {self.one}"


def views(trials: Sequence[PlannedTrial], size: Size) -> list[Views]:
    """Return the views that trials read, by augmentation.

    Args:
        trials: those that train.
        size: number of distinct images in the union of training lists of these digests.
    """
    by_augment: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        if trial.spec.augment:
            by_augment.setdefault(digest(trial.spec.augment), []).append(trial)
    return [_of(members, size) for members in by_augment.values()]


def _of(trials: Sequence[PlannedTrial], size: Size) -> Views:
    augment = trials[0].spec.augment
    assert augment is not None
    lists: defaultdict[int, set[str]] = defaultdict(set)
    readers: dict[tuple[int, str], tuple[MapRecipe, set[str]]] = {}
    for spec in (trial.spec for trial in trials):
        for view in views_of(spec.augment, spec.epochs):
            lists[view.number].add(spec.train.digest)
            for recipe in (recipe for recipe in spec.maps if recipe.map != PIXELS):
                readers.setdefault((view.number, recipe.fingerprint), (recipe, set()))[1].add(spec.train.digest)
    share = share_touched(augment)
    return Views(
        augment=augment,
        anew=any(trial.spec.augment is not None and trial.spec.augment.views == "epochs" for trial in trials),
        draws=len(lists),
        largest=max(size(frozenset(digests)) for digests in lists.values()),
        all=_cost(readers, share, size),
        one=_cost({key: reader for key, reader in readers.items() if key[0] == 1}, share, size),
    )


def _cost(readers: Mapping[tuple[int, str], tuple[MapRecipe, set[str]]], share: float, size: Size) -> Cost:
    stored = 0.0
    through: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    for (number, _), (recipe, digests) in readers.items():
        stored += share * size(frozenset(digests)) * bytes_of(recipe)
        through[number, recipe.map.partition("/")[0]] |= digests
    passes: dict[str, float] = {}
    for (_, name), digests in through.items():
        passes[name] = passes.get(name, 0.0) + share * size(frozenset(digests))
    return Cost(passes, stored)


def _name(augment: AugmentSpec) -> str:
    known = [name for name, ops in NAMED.items() if ops == augment.ops]
    return known[0] if known else " and ".join(op.name for op in augment.ops)
