"""What augmented training costs before it is paid: images through the frozen backbones, and their storage."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from dfloc.augmentation import AugmentSpec
from dfloc.config import MapRecipe, TrialSpec
from dfloc.data.augment import digest, name_of, share_touched, views_of
from dfloc.features.store import PIXELS, bytes_of
from dfloc.planned import PlannedTrial

Size = Callable[[frozenset[str]], int]
_Way = tuple[str, int | None]


@dataclass(frozen=True)
class AugmentedViews:
    """The views of one augmentation that a sweep's trials read through one backbone.

    Images are counted as expected, by the probability that some operation touches one.

    Attributes:
        augment: its operations and seed.
        backbone: its name; `pixels` are changed as they are read, and cost nothing.
        via: the side to which the images are brought first, as in its maps' recipes.
        anew: whether some trial draws anew in each epoch.
        wanted: of each view, in order, how many training images there are.
        sizes: of each view that is stored, how many bytes.
        instead: what they were if each epoch drew anew; none where it does.
    """

    augment: AugmentSpec
    backbone: str
    via: int | None
    anew: bool
    wanted: tuple[int, ...]
    sizes: tuple[float, ...]
    instead: "AugmentedViews | None" = None

    @property
    def passes(self) -> float:
        """Images of all views through the backbone."""
        return 0 if self.backbone in PIXELS else self._passes(len(self.wanted))

    @property
    def size(self) -> float:
        """Bytes of what is stored of all views."""
        return sum(self.sizes)

    def line(self) -> str:
        """Return what `--dry-run` says of it."""
        num, share = len(self.wanted), share_touched(self.augment)
        how = "drawn anew in each epoch" if self.anew else "taken in turn"
        way = self.backbone if self.via is None else f"{self.backbone} via {self.via}"
        name = name_of(self.augment) or " and ".join(op.name for op in self.augment.ops)
        head = f"views of {name}, {way}: {num}, {how}"
        if self.backbone in PIXELS:
            return f"{head}; changed as they are read, nothing is stored"
        each = "" if share == 1 else f"{share:g} x "
        words = f"{head}; {num} x {each}{max(self.wanted)} images = {self._cost(num)}"
        if num > 1:
            words = f"{words}; with views: 1, {self._cost(1)}"
        if self.instead:
            words = f"{words}; with views: epochs, {self.instead._cost(len(self.instead.wanted))}"
        return words

    def _passes(self, num: int) -> float:
        return share_touched(self.augment) * sum(self.wanted[:num])

    def _cost(self, num: int) -> str:
        return f"{self._passes(num):.0f} images through it, {sum(self.sizes[:num]) / 1e9:.2f} GB"


def views(trials: Sequence[PlannedTrial], size: Size) -> list[AugmentedViews]:
    """Return the views that trials read, by augmentation, backbone and way into it.

    `size` gives the number of distinct images in the union of the training lists of some digests.
    """
    size = cache(size)  # views differ, but what is trained on does not
    readers: defaultdict[tuple[str, _Way], list[PlannedTrial]] = defaultdict(list)
    for trial in trials:
        if trial.spec.augment:
            for way in dict.fromkeys(_way(recipe) for recipe in trial.spec.maps):
                readers[digest(trial.spec.augment), way].append(trial)
    return [_of(way, members, size) for (_, way), members in readers.items()]


def _of(way: _Way, trials: Sequence[PlannedTrial], size: Size) -> AugmentedViews:
    anew = [trial.model_copy(update={"spec": _anew(trial.spec)}) for trial in trials]
    found = _drawn(way, trials, size)
    return found if found.anew else replace(found, instead=_drawn(way, anew, size))


def _anew(spec: TrialSpec) -> TrialSpec:
    assert spec.augment is not None
    return spec.model_copy(update={"augment": spec.augment.model_copy(update={"views": "epochs"})})


def _drawn(way: _Way, trials: Sequence[PlannedTrial], size: Size) -> AugmentedViews:
    augment = trials[0].spec.augment
    assert augment is not None
    lists: defaultdict[int, set[str]] = defaultdict(set)
    stored: defaultdict[int, dict[str, set[str]]] = defaultdict(dict)
    recipes: dict[str, MapRecipe] = {}
    for spec in (trial.spec for trial in trials):
        for view in views_of(spec.augment, spec.epochs):
            lists[view.number].add(spec.train.digest)
            for recipe in (recipe for recipe in spec.maps if _way(recipe) == way):
                recipes[recipe.fingerprint] = recipe
                stored[view.number].setdefault(recipe.fingerprint, set()).add(spec.train.digest)
    share = share_touched(augment)
    return AugmentedViews(
        augment=augment,
        backbone=way[0],
        via=way[1],
        anew=any(trial.spec.augment is not None and trial.spec.augment.views == "epochs" for trial in trials),
        wanted=tuple(size(frozenset(lists[number])) for number in sorted(lists)),
        sizes=tuple(
            sum(share * size(frozenset(each)) * bytes_of(recipes[fp]) for fp, each in stored[number].items())
            for number in sorted(lists)
            if way[0] not in PIXELS
        ),
    )


def _way(recipe: MapRecipe) -> _Way:
    return recipe.name.backbone, recipe.via
