"""Make what the feature store lacks: row groups through frozen backbones (Ray Data)."""

import contextlib
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from upath import UPath

from dfloc import arithmetic, plugin, registry
from dfloc.config import MapRecipe
from dfloc.data.augment import View
from dfloc.data.manifest import SampleRef
from dfloc.data.shards import Pixels, ShardReader, decode_image, fakeness_of
from dfloc.errors import DataError, DflocError
from dfloc.features.store import CLEAN, PIXELS, STORED_DTYPES, TRUTH, FeatureStore, pack_bits, target
from dfloc.features.weights import WeightsIndex
from dfloc.models.base import Backbone, entered
from dfloc.plugin import Plugin
from dfloc.worker_check import WorkerCheck
from dfloc.workers import first_cause, quiet_data

BATCH = 32
RETRIES = 3

_Key = tuple[str, str, str | None]  # a backbone, the digest of its weights, and of its plug-in's file


class Job(NamedTuple):
    """A row group that lacks maps.

    Attributes:
        shard: path relative to the data folder.
        shard_digest: of the shard's samples.
        group: index of the row group.
        recipes: the maps that it lacks.
        wanted: the rows that someone asked for; the group is passed whole all the same.
        view: an augmented draw, of which only the images that it changes are passed; none: the clean one.
    """

    shard: str
    shard_digest: str
    group: int
    recipes: tuple[MapRecipe, ...]
    wanted: frozenset[int]
    view: View | None = None

    @property
    def rows(self) -> int:
        """Number of images that someone asked for."""
        return len(self.wanted)

    def merged(self, other: "Job") -> "Job":
        """Return one job for this row group and view with the maps and wanted rows of both."""
        recipes = {recipe.fingerprint: recipe for recipe in (*self.recipes, *other.recipes)}
        return self._replace(recipes=tuple(recipes.values()), wanted=self.wanted | other.wanted)


def missing(
    store: FeatureStore, samples: Iterable[SampleRef], recipes: Iterable[MapRecipe], view: View | None = None
) -> list[Job]:
    """Return the row groups that hold a sample and lack one of the maps or TRUTH, each with what it lacks.

    A map that is damaged is lacking, and stands in `store.damaged`.

    Args:
        store: what is there.
        samples: that someone wants.
        recipes: the maps.
        view: an augmented draw: of its own are only the samples that it changes, and neither TRUTH nor `pixels`, which
            are changed as they are read. None: the clean one.
    """
    stored = [recipe for recipe in recipes if recipe.map not in PIXELS] if view else [TRUTH, *recipes]
    asked = {recipe.fingerprint: recipe for recipe in stored}.values()
    held: dict[tuple[str, str, int], list[SampleRef]] = defaultdict(list)
    for sample in samples:
        held[sample.shard, sample.shard_digest, sample.group].append(sample)
    jobs = []
    name = view.name if view else CLEAN
    whole = iter(store.whole([(recipe, name, digest, group) for _, digest, group in held for recipe in asked]))
    for (shard, digest, group), members in held.items():
        lacking = tuple(recipe for recipe in asked if not next(whole))
        wanted = {one.row for one in members if view is None or view.touches(one.id)} if lacking else ()
        if wanted:
            jobs.append(Job(shard, digest, group, lacking, frozenset(wanted), view))
    return jobs


def extract(
    store: FeatureStore,
    folder: UPath,
    jobs: Sequence[Job],
    *,
    weights: WeightsIndex,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
    proof: WorkerCheck | None = None,
) -> int:
    """Pass row groups through their backbones into the store, on the Ray that is running.

    CPU tasks read and decode, actors hold the backbones and write; only receipts come back. Where the backbones are on
    the CPU too, they read for themselves: readers would only share their cores. A row group counts as done by its
    receipt, so after an interruption `missing` names what is left.

    Args:
        store: where the maps go; every node must reach it.
        folder: the data folder; every node must reach it.
        jobs: as `missing` lists them.
        weights: where the backbones' weights are loaded from.
        device: of the backbones, cpu or cuda.
        on_progress: called with the wanted images done and to do.
        proof: what a node must find and run before it passes a row group; None: run what this process runs.

    Returns:
        Number of images passed.

    Raises:
        DflocError: the first one of a worker (an image cannot be decoded, a value is not finite, a backbone cannot be
            made), or a worker died.
    """
    if not jobs:
        return 0
    import ray.data

    recipes = {recipe.fingerprint: recipe for job in jobs for recipe in job.recipes}
    done, total, passed = 0, sum(job.rows for job in jobs), 0
    arguments = {"store": store, "folder": folder.absolute(), "recipes": recipes, "weights": weights, "device": device}
    arguments |= {"plugins": registry.plugins(), "proof": proof or WorkerCheck.begin()}
    with quiet_data():
        items = ray.data.from_items([_item(job) for job in jobs], override_num_blocks=len(jobs))
        if device != "cpu":
            items = items.map(_read, fn_kwargs={name: arguments[name] for name in ("folder", "proof")})
        receipts = items.map(_Backbones, fn_constructor_kwargs=arguments, **_resources(device, len(jobs)))
        try:
            for receipt in receipts.iter_rows():
                if receipt["error"]:
                    raise pickle.loads(receipt["error"])
                done, passed = done + receipt["wanted"], passed + receipt["images"]
                if on_progress:
                    on_progress(done, total)
        except ray.exceptions.RayError as error:
            cure = "when that is mended, start again: what is stored stays"
            raise DflocError(f"no features: {first_cause(error)}; {cure}") from error
    return passed


def _item(job: Job) -> dict[str, Any]:
    fingerprints = [recipe.fingerprint for recipe in job.recipes]
    return job._asdict() | {"recipes": fingerprints, "wanted": len(job.wanted), "view": pickle.dumps(job.view)}


def _resources(device: str, num_jobs: int) -> dict[str, Any]:
    """Return how many backbones there are, one for each GPU or core of the cluster, and what each of them holds."""
    import ray

    unit, held = ("CPU", {"num_cpus": 1}) if device == "cpu" else ("GPU", {"num_cpus": 0, "num_gpus": 1})
    size = min(num_jobs, max(1, int(ray.cluster_resources().get(unit, 1))))
    retried = {"max_restarts": RETRIES, "max_task_retries": RETRIES}
    return {"compute": ray.data.ActorPoolStrategy(size=size), **held, **retried}


class _Decoded(NamedTuple):
    """An image of a row group: its id, its pixels as the view has them, its target (of the clean view alone)."""

    id: str
    image: Pixels
    target: npt.NDArray[np.bool_] | None


def _read(item: dict[str, Any], folder: UPath, proof: WorkerCheck) -> dict[str, Any]:
    """Decode a row group in a process of its own; what comes of it, or the error, travels pickled."""
    decoded: list[_Decoded] | DflocError
    try:
        proof.check()
        decoded = list(_decode(folder, item["shard"], item["group"], pickle.loads(item["view"])))
    except DflocError as error:
        decoded = error
    return item | {"decoded": pickle.dumps(decoded)}


def _decode(folder: UPath, shard: str, group: int, view: View | None) -> Iterator[_Decoded]:
    """Decode the images of a row group that a view changes, one at a time: they may be large."""
    for row in ShardReader(folder).group(shard, group, ("id", "image", "mask", "mask_kind", "exif")):
        if view and not view.touches(row["id"]):
            continue
        try:
            image_HWC = decode_image(row["image"]["bytes"])
            if view:
                yield _Decoded(row["id"], view.apply(image_HWC, row["id"], "stored"), None)
                continue
            target_HW = target(fakeness_of(row, *image_HWC.shape[:2]))
        except DataError as error:
            raise DataError(f"{row['id']} in shard {folder / shard}: {error}; import again") from error
        yield _Decoded(row["id"], image_HWC, target_HW)


@contextlib.contextmanager
def _named(backbone: str) -> Iterator[None]:
    """Name the backbone that an error comes from, of whatever class: Ray would let the words of some go unsaid."""
    try:
        yield
    except DflocError:
        raise
    except Exception as error:
        cure = "when that is mended, start again: what is stored stays"
        raise DflocError(f"backbone {backbone}: {first_cause(error)}; {cure}") from error


class _Pass:
    """What one backbone says of the images of a row group on one way in; they go through it some at a time.

    Args:
        backbone: on the device.
        recipes: its maps, all with the same `via`.
        device: cpu or cuda.
        view: what is done to the images when the backbone takes them.
    """

    def __init__(self, backbone: Backbone, recipes: Sequence[MapRecipe], device: str, view: View | None):
        self._backbone, self._device, self._view = backbone, device, view
        self._size = getattr(backbone, "batch", BATCH)
        self._waiting: list[torch.Tensor] = []
        self._name = recipes[0].name.backbone
        self._names = {recipe.fingerprint: recipe.name.map for recipe in recipes}
        self._made: dict[str, list[npt.NDArray[np.floating]]] = defaultdict(list)
        self.recipes = recipes

    def add(self, image_HWC: Pixels, sample_id: str) -> None:
        """Take one more image; none is kept beyond its batch."""
        with _named(self._name):
            image_CHW = entered(self._backbone, image_HWC, self.recipes[0].via)
        self._waiting.append(self._view.change(image_CHW, sample_id, "input") if self._view else image_CHW)
        if len(self._waiting) == self._size:
            self._run()

    def maps(self) -> Iterator[tuple[MapRecipe, npt.NDArray[np.floating]]]:
        """Yield each map of all images, in the dtype in which it is stored."""
        if self._waiting:
            self._run()
        for recipe in self.recipes:
            yield recipe, np.concatenate(self._made.pop(recipe.fingerprint))

    def _run(self) -> None:
        with _named(self._name), arithmetic.exact(1), torch.inference_mode(), np.errstate(over="ignore"):
            inputs_BCHW = torch.stack(self._waiting).to(self._device)
            self._waiting.clear()
            maps = self._backbone(inputs_BCHW, list(dict.fromkeys(self._names.values())))
            for recipe in self.recipes:
                rows = maps[self._names[recipe.fingerprint]].cpu().numpy().astype(STORED_DTYPES[recipe.stored])
                self._made[recipe.fingerprint].append(rows)


class _Backbones:
    """An actor: holds every backbone of the jobs, passes a row group, and writes what comes out."""

    def __init__(
        self,
        store: FeatureStore,
        folder: UPath,
        recipes: Mapping[str, MapRecipe],
        weights: WeightsIndex,
        device: str,
        plugins: Sequence[Plugin],
        proof: WorkerCheck,
    ):
        self._store, self._folder, self._recipes, self._device = store, folder, recipes, device
        self._weights, self._plugins, self._proof = weights, plugins, proof
        self._made: dict[_Key, Backbone] = {}

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return how many images passed; an error travels pickled, because Ray would write its own words into it."""
        try:
            return {"wanted": item["wanted"], "images": self._store_all(item), "error": b""}
        except DflocError as error:
            return {"wanted": 0, "images": 0, "error": pickle.dumps(error)}

    def _store_all(self, item: dict[str, Any]) -> int:
        """Write every map that a row group lacks; return the number of its images."""
        self._proof.check()
        plugin.use(self._plugins)
        by_input: dict[tuple[_Key, int | None], list[MapRecipe]] = defaultdict(list)
        for recipe in (self._recipes[fingerprint] for fingerprint in item["recipes"]):
            key = (recipe.name.backbone, recipe.weights, recipe.plugin)
            by_input[key, recipe.via].append(recipe)
        targets = by_input.pop((("truth", TRUTH.weights, None), None), [])
        view: View | None = pickle.loads(item["view"])
        passes = [_Pass(self._backbone(*key), recipes, self._device, view) for (key, _), recipes in by_input.items()]
        ids, target_NHW = [], []
        for image in self._images(item, view):
            ids.append(image.id)
            target_NHW += [] if image.target is None else [image.target]
            for one in passes:
                one.add(image.image, image.id)
        where = (view.name if view else CLEAN, item["shard_digest"], item["group"])
        for recipe in targets:
            self._store.put(recipe, *where, pack_bits(np.stack(target_NHW)), ids)
        for recipe, rows in (each for one in passes for each in one.maps()):
            self._store.put(recipe, *where, rows, ids)
        return len(ids)

    def _images(self, item: dict[str, Any], view: View | None) -> Iterator[_Decoded]:
        if "decoded" not in item:
            return _decode(self._folder, item["shard"], item["group"], view)
        read = pickle.loads(item["decoded"])
        if isinstance(read, DflocError):
            raise read
        return iter(read)

    def _backbone(self, name: str, weights: str, of: str | None) -> Backbone:
        """Return a backbone, made on its first use: Ray would take an error in __init__ for a dead process."""
        if (name, weights, of) not in self._made:
            with _named(name):
                self._made[name, weights, of] = self._weights.make(name, weights, self._device, of)
        return self._made[name, weights, of]
