"""Where a trial's batches come from: stored maps of its list, their targets, and maps of images that are not stored."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dfloc import registry, repro
from dfloc.augmentation import AugmentSpec
from dfloc.config import Labels, MapRecipe, Targets
from dfloc.data.augment import AppliedTo, View, view_of
from dfloc.data.manifest import SampleRef
from dfloc.data.shards import Pixels
from dfloc.engine.labels import Label
from dfloc.errors import ConfigError, DataError
from dfloc.features.store import PIXELS, STORED_DTYPES, TRUTH, FeatureStore, unpack_bits
from dfloc.models.base import Backbone, entered
from dfloc.registry import MapSpec


class Batch(NamedTuple):
    """Some samples.

    Attributes:
        x: float32 [B, C, H, W].
        target_BHW: uint8 [B, 256, 256]; 1 = fake.
        rows: their places in the list.
        label_B: int64 [B], their classes (`engine.labels`); None: nobody asked.
    """

    x: Tensor
    target_BHW: Tensor  # noqa: N815
    rows: Sequence[int]
    label_B: Tensor | None = None  # noqa: N815


class Source(Protocol):
    """The samples of a list, read in batches; the engine knows nothing else of the data."""

    @property
    def num_samples(self) -> int:
        """Length of the list."""
        ...

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """Return the samples at these positions of the list, in this order; the epoch chooses a view of the data."""
        ...


class StoredMaps:
    """Maps from the feature store; in a view `pixels` are changed as they are read, all other maps are stored changed.

    What a view does not change is read from the clean one.

    Args:
        store: holds the maps.
        recipes: of the maps.
        tokens: as for `fuse`.
    """

    def __init__(self, store: FeatureStore, recipes: Sequence[MapRecipe], *, tokens: bool = False) -> None:
        self._store, self._recipes, self._tokens = store, recipes, tokens

    def read(self, samples: Sequence[SampleRef], view: View | None = None) -> Tensor:
        """Gather the rows from the memory-mapped files."""
        touched = [place for place, sample in enumerate(samples) if view and view.touches(sample.id)]
        parts = [torch.from_numpy(self._rows(recipe, samples, view, touched)).float() for recipe in self._recipes]
        return fuse(parts, [registry.map_spec(recipe.map) for recipe in self._recipes], tokens=self._tokens)

    def _rows(
        self, recipe: MapRecipe, samples: Sequence[SampleRef], view: View | None, touched: Sequence[int]
    ) -> npt.NDArray[Any]:
        if view is None or not touched:
            return self._store.gather(recipe, samples)
        if recipe.map in PIXELS:
            rows = self._store.gather(recipe, samples)
            for place in touched:
                rows[place] = view.change(torch.from_numpy(rows[place]), samples[place].id).numpy()
            return rows
        changed = self._store.gather(recipe, [samples[place] for place in touched], view.name)
        rows = np.empty((len(samples), *changed.shape[1:]), changed.dtype)
        rows[list(touched)] = changed
        clean = [place for place in range(len(samples)) if place not in set(touched)]
        if clean:
            rows[clean] = self._store.gather(recipe, [samples[place] for place in clean])
        return rows


class StoredSource:
    """A list of samples with stored maps and targets; the list is put in the order of its digest, by id.

    Args:
        store: holds maps and targets.
        recipes: the maps.
        samples: in any order: the same set always trains in the same order.
        targets: own | shuffled (a control: each image gets another one's mask) | label (all of a fake, none of a real).
        seed: the trial's; draws the shuffle.
        augment: how the images are changed, anew in each view; none: not at all.
        tokens: as for `fuse`.
        label: of a sample, for tasks of images; their shuffle is any permutation, since another mask is no other class.
        labelled: ids of those of which the label alone is the target, whatever the others' is.
        labels: own | shuffled (each of `labelled` gets another one's).

    Raises:
        ConfigError: targets that are all the same cannot be shuffled.
    """

    def __init__(
        self,
        store: FeatureStore,
        recipes: Sequence[MapRecipe],
        samples: Sequence[SampleRef],
        targets: Targets = "own",
        seed: int = 0,
        augment: AugmentSpec | None = None,
        *,
        tokens: bool = False,
        label: Label | None = None,
        labelled: Collection[str] = (),
        labels: Labels = "own",
    ) -> None:
        self.augment = augment
        self.samples = sorted(samples, key=lambda sample: sample.id)
        self.maps = StoredMaps(store, recipes, tokens=tokens)
        self._store, self._label = store, label
        weak = [place for place, sample in enumerate(self.samples) if targets == "label" or sample.id in labelled]
        self._weak = frozenset(weak)
        self._owners = self.samples
        if targets == "shuffled":
            others = permuted(len(self.samples), seed) if label else other_ones(self.samples, seed)
            self._owners = [self.samples[other] for other in others]
        if labels == "shuffled":
            drawn = dict(zip(weak, (weak[k] for k in permuted(len(weak), seed)), strict=True))
            self._owners = [self._owners[drawn.get(place, place)] for place in range(len(self.samples))]

    @property
    def num_samples(self) -> int:
        """Length of the list."""
        return len(self.samples)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """Return maps of these positions, of the view that the epoch reads, and targets, which a view flips at most."""
        view, samples = view_of(self.augment, epoch), [self.samples[index] for index in indices]
        x_BCHW = self.maps.read(samples, view)
        owners = [self._owners[index] for index in indices]
        target_BHW = torch.from_numpy(unpack_bits(self._store.gather(TRUTH, owners))).to(torch.uint8)
        for place, index in enumerate(indices):
            if index in self._weak:
                target_BHW[place] = int(owners[place].mask_kind != "real")
        if view and (flipped := [place for place, sample in enumerate(samples) if view.flips(sample.id)]):
            target_BHW[flipped] = target_BHW[flipped].flip(-1)
        label_B = torch.tensor([self._label(owner) for owner in owners]) if self._label else None
        return Batch(x_BCHW, target_BHW, indices, label_B)


def permuted(number: int, seed: int) -> list[int]:
    """Return the places of a list in random order."""
    found: list[int] = torch.randperm(number, generator=repro.generator(seed, "targets")).tolist()
    return found


def other_ones(samples: Sequence[SampleRef], seed: int) -> list[int]:
    """Return for each sample the position of another one, all different, whose mask is not its own.

    The same mask may lie in many domains. Samples of one mask stand together in a circle, in random order, and each
    takes the mask so many places on as the commonest mask has samples. A mask that more than half of the samples have
    (reals have none, which is one) stays with as few of them as can be.

    Raises:
        ConfigError: there are fewer than two different masks.
    """
    masks = [(sample.mask_sha256, sample.mask_kind) for sample in samples]
    counts = Counter(masks)
    if len(counts) < 2:
        raise ConfigError(f"targets can be shuffled among two different masks or more, not {len(counts)}")
    drawn = torch.randperm(len(samples), generator=repro.generator(seed, "targets")).tolist()
    first = {mask: place for place, mask in reversed(list(enumerate(masks[position] for position in drawn)))}
    circle = sorted(drawn, key=lambda position: first[masks[position]])
    step = max(counts.values())
    following = dict(zip(circle, circle[step:] + circle[:step], strict=True))
    return [following[position] for position in range(len(samples))]


def look(
    images: Sequence[Pixels],
    backbones: Mapping[str, Backbone],
    recipes: Sequence[MapRecipe],
    device: str = "cpu",
    view: View | None = None,
    ids: Sequence[str] = (),
    *,
    tokens: bool = False,
) -> Tensor:
    """Return what a decoder sees of decoded images, float32 [B, C, H, W], rounded as the store rounds it.

    Args:
        images: RGB, uint8 [H, W, 3], each of its own size.
        backbones: by name, on the device; one pass of each gives all its maps.
        recipes: the maps.
        device: cpu | cuda.
        view: an augmented draw of the images; none: they are taken as they are.
        ids: of the images, by which the view draws.
        tokens: as for `fuse`.

    Raises:
        DataError: a map has a value that is not finite as it would be stored, which the store refuses too.
    """
    wanted: defaultdict[tuple[str, int | None], list[str]] = defaultdict(list)
    for recipe in recipes:
        wanted[recipe.name.backbone, recipe.via].append(recipe.name.map)
    made: dict[tuple[str, int | None], Mapping[str, Tensor]] = {}
    with torch.inference_mode():
        for (name, via), names in wanted.items():
            if view:
                inputs_BCHW = _changed(images, backbones[name], via, view, ids, stored=name in PIXELS)
            else:
                inputs_BCHW = torch.stack([entered(backbones[name], image, via) for image in images])
            made[name, via] = backbones[name](inputs_BCHW.to(device), names)
    parts = []
    for recipe in recipes:
        parts.append(_rounded(made[recipe.name.backbone, recipe.via][recipe.name.map], recipe))
    return fuse(parts, [registry.map_spec(recipe.map) for recipe in recipes], tokens=tokens)


def _changed(
    images: Sequence[Pixels], backbone: Backbone, via: int | None, view: View, ids: Sequence[str], stored: bool
) -> Tensor:
    """Return images as a backbone takes them in a view, [B, 3, S, S].

    Args:
        images: RGB, uint8 [H, W, 3].
        backbone: that takes them.
        via: as in its recipe.
        view: what is done to them.
        ids: of the images.
        stored: what the backbone takes is itself what is stored (`pixels`): all operations act on that.
    """
    if not stored:
        images = [view.apply(image, of, "stored") for image, of in zip(images, ids, strict=True)]
    taken = [entered(backbone, image, via) for image in images]
    where: AppliedTo | None = None if stored else "input"
    return torch.stack([view.change(image, of, where) for image, of in zip(taken, ids, strict=True)])


def _rounded(map_BCHW: Tensor, recipe: MapRecipe) -> Tensor:
    with np.errstate(over="ignore"):
        stored_BCHW = map_BCHW.cpu().numpy().astype(STORED_DTYPES[recipe.stored])
    if not np.isfinite(stored_BCHW).all():
        raise DataError(f"{recipe.map} has a value that is not finite as {recipe.stored}; look at the image")
    return torch.from_numpy(stored_BCHW).float()


def fuse(parts: Sequence[Tensor], specs: Sequence[MapSpec], *, tokens: bool = False) -> Tensor:
    """Concatenate maps in order, [B, C, H, W], each resized bilinearly to the first one's grid.

    Args:
        parts: maps as backbones give them; tokens lose their CLS and are laid out row by row, a vector is a grid of one
            cell.
        specs: their shapes.
        tokens: whether the decoder is of those that read all tokens (`DecoderSpec.reads_tokens`): those of the maps,
            all of as many, come with CLS first, as a grid of one row, [B, C, 1, T].
    """
    if tokens:
        rows = [part.transpose(1, 2)[:, :, None] for part in parts]
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)
    grids = [_grid(part, spec) for part, spec in zip(parts, specs, strict=True)]
    size = grids[0].shape[-2:]
    same = [grid if grid.shape[-2:] == size else functional.interpolate(grid, size, mode="bilinear") for grid in grids]
    return same[0] if len(same) == 1 else torch.cat(same, dim=1)


def _grid(part: Tensor, spec: MapSpec) -> Tensor:
    if spec.layout == "grid":
        return part
    if spec.layout == "vector":
        return part[:, :, None, None]
    return part[:, 1:].transpose(1, 2).reshape(len(part), spec.channels, spec.height, spec.width)
