"""What a frozen backbone said about an image: find it, map it into memory."""

import io
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from upath import UPath

from dfloc import digests, registry, storage
from dfloc.config import MapRecipe
from dfloc.data.manifest import SampleRef
from dfloc.errors import DataError, WorkspaceError
from dfloc.frozen import Frozen
from dfloc.ids import MapName

TRUTH_SIZE = 256
TRUTH = MapRecipe(
    map=f"truth/mask{TRUTH_SIZE}",
    weights="none",
    input_size=TRUTH_SIZE,
    resize="pil-bilinear",
    compute="uint8",
    stored="bits",
    semantics={name: registry.SEMANTICS[name] for name in ("decode", "target")},
)
"""Training targets: fakeness at 256 over 127.5, eight pixels to a byte, kept beside the maps."""

STORED_DTYPES = {"float16": np.float16, "float32": np.float32, "uint8": np.uint8, "bits": np.uint8}

PIXELS = frozenset({"pixels", "pixels299"})
"""The maps that are the image itself: views of them are made as they are read, and never stored."""

CLEAN = "0"
"""The view in which nothing is changed."""

# Each open map holds a file descriptor, of which a process often has no more than 1024.
MAX_OPEN_MAPS = 512

PATIENCE_SECONDS = 2.0


def recipe_for(map_name: str, weights: str = "none", via: int | None = None) -> MapRecipe:
    """Return the recipe of a map, `<backbone>/<map>`, from its registry row; weights are not looked at.

    Args:
        map_name: as a sweep file names it.
        weights: what identifies the weights.
        via: side to which PIL brings the stored image first.

    Raises:
        ConfigError: the backbone or its map is not in the table.
    """
    registry.map_spec(map_name)
    name = MapName.of(map_name).backbone
    row = registry.backbone(name)
    return MapRecipe(
        map=map_name,
        weights=weights,
        input_size=row.input_size,
        resize=row.resize,
        stored=row.stored,
        semantics={"decode": registry.SEMANTICS["decode"], "adapter": row.semantics},
        plugin=registry.plugin_of("backbone", name),
        via=via,
    )


def bytes_of(recipe: MapRecipe) -> int:
    """Return how many bytes one image takes in the store."""
    if recipe == TRUTH:
        return recipe.input_size**2 // 8
    spec = registry.map_spec(recipe.map)
    item = np.dtype(STORED_DTYPES[recipe.stored]).itemsize
    return spec.channels * (spec.height * spec.width + (spec.layout == "tokens")) * item


def target(fakeness_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return what a decoder is trained to say of an image, bool [256, 256], True = fake.

    Args:
        fakeness_HW: at native size; resized by PIL (bilinear) where that is another, then fake = over 127.5.
    """
    size = (TRUTH_SIZE, TRUTH_SIZE)
    if fakeness_HW.shape != size:
        fakeness_HW = np.asarray(Image.fromarray(fakeness_HW).resize(size, Image.Resampling.BILINEAR))
    return fakeness_HW > 127.5


def pack_bits(mask_N256256: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return masks as the store keeps TRUTH: uint8 [N, 256 * 256 / 8]."""
    return np.packbits(mask_N256256.reshape(len(mask_N256256), TRUTH_SIZE**2), axis=1)


def unpack_bits(packed_NB: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return stored rows of TRUTH as bool [N, 256, 256]."""
    bits = np.unpackbits(packed_NB, axis=1)
    return bits.reshape(len(packed_NB), TRUTH_SIZE, TRUTH_SIZE).view(np.bool_)


GroupState = Literal["whole", "damaged", "missing"]


class GroupReceipt(Frozen):
    """What one stored row group is; written after it, so that without a receipt there is nothing.

    Attributes:
        sha256: of the .npy file.
        size: of the .npy file in bytes.
        ids: sample ids, row by row; of a view only those that it changes.
        place: recipe's fingerprint, view, shard's digest and group; empty in receipts of before.
    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    size: int
    ids: tuple[str, ...]
    place: tuple[str, ...] = ()


class FeatureStore:
    """Maps of whole row groups as .npy files, each with its receipt, by whose digest it is read.

    `<root>/<recipe's fingerprint>/<view>/<shard's sample digest>/<group>.npy` and `.json`. A group whose file or
    receipt is damaged counts as missing and is made again. View 0 is the clean one and holds every row of the group;
    any other (`data.augment.View.name`) holds the rows that it changes, the others being as in view 0.

    Args:
        root: the workspace's `features` folder.
        say: told what takes long.

    Attributes:
        damaged: files of the damaged groups that `whole` has found.
    """

    def __init__(self, root: UPath, say: Callable[[str], None] | None = None):
        self.root = root
        self.damaged: set[str] = set()
        self._say = say
        self._mapped = lru_cache(MAX_OPEN_MAPS)(self._map)

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[UPath]]:
        return FeatureStore, (self.root,)

    def receipt(self, recipe: MapRecipe, view: int | str, shard_digest: str, group: int) -> GroupReceipt | None:
        """Return the receipt of a row group that is there with the size it names (nothing is hashed), else None."""
        return self._receipt(self._path(recipe.fingerprint, view, shard_digest, group))

    def has(self, recipe: MapRecipe, view: int | str, shard_digest: str, group: int) -> bool:
        """Whether a row group is there; cheap, nothing is hashed."""
        return self.receipt(recipe, view, shard_digest, group) is not None

    def put(
        self,
        recipe: MapRecipe,
        view: int | str,
        shard_digest: str,
        group: int,
        array: npt.NDArray[Any],
        ids: Sequence[str],
    ) -> GroupReceipt:
        """Store the rows of a row group, in its order, in the recipe's dtype; TRUTH as packed bits.

        Maps are [N, C, H, W], tokens [N, T, C], vectors [N, C].

        Raises:
            DataError: a value is not finite, or does not fit the stored dtype (names the sample).
        """
        assert len(array) == len(ids)
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(array, dtype=STORED_DTYPES[recipe.stored])
        _refuse_non_finite(recipe, rows, ids)
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        data = buffer.getvalue()
        path = self._path(recipe.fingerprint, view, shard_digest, group)
        receipt = GroupReceipt(
            shape=rows.shape,
            dtype=str(rows.dtype),
            sha256=digests.digest(data),
            size=len(data),
            ids=tuple(ids),
            place=self._place(path),
        )
        storage.remove(path.with_suffix(".json"))  # or who reads meanwhile finds the new file damaged
        storage.put(path, data)
        storage.put(path.with_suffix(".json"), storage.sealed(receipt))
        return receipt

    def group(self, recipe: MapRecipe, view: int | str, shard_digest: str, group: int) -> np.memmap[Any, Any]:
        """Return a row group, mapped into memory, read-only.

        Raises:
            WorkspaceError: it is not there, or broken.
        """
        return self._mapped(recipe.fingerprint, view, shard_digest, group)[0]

    def whole(self, places: Sequence[tuple[MapRecipe, int | str, str, int]]) -> list[bool]:
        """Whether row groups (recipe, view, shard's digest, group) are there and whole; several are read at a time."""
        paths = [self._path(recipe.fingerprint, view, digest, group) for recipe, view, digest, group in places]
        start, announced = time.monotonic(), self._say is None
        states = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for state in pool.map(self.state, paths):
                states.append(state)
                if self._say and not announced and time.monotonic() - start > PATIENCE_SECONDS:
                    announced = True
                    self._say(f"verifying {len(paths):,} groups of stored features, once on this machine")
        self.damaged |= {str(path) for path, state in zip(paths, states, strict=True) if state == "damaged"}
        return [state == "whole" for state in states]

    def files(self) -> list[UPath]:
        """Return the .npy file of every group that is there in part or whole."""
        files = {path.with_suffix(".npy") for kind in ("npy", "json") for path in self.root.glob(f"*/*/*/*.{kind}")}
        return sorted(files, key=str)

    def gather(self, recipe: MapRecipe, samples: Sequence[SampleRef], view: int | str = 0) -> npt.NDArray[Any]:
        """Return the stored rows of samples, in the order asked, as a copy, shaped as put; TRUTH [N, 8192].

        Raises:
            WorkspaceError: a row group is not there, is broken, holds another sample in that row, or the view lacks it.
        """
        fingerprint = recipe.fingerprint
        positions: dict[tuple[str, int], list[int]] = defaultdict(list)
        for position, sample in enumerate(samples):
            positions[sample.shard_digest, sample.group].append(position)
        parts = []
        for (shard_digest, group), where in positions.items():
            rows, row_of = self._mapped(fingerprint, view, shard_digest, group)
            for sample in (samples[position] for position in where):
                row = row_of.get(sample.id)
                if row is None or (str(view) == CLEAN and row != sample.row):
                    path = self._path(fingerprint, view, shard_digest, group)
                    raise WorkspaceError(f"row {sample.row} of {path} is not {sample.id}; delete it, it is made again")
            parts.append(rows[[row_of[samples[position].id] for position in where]])
        out = np.empty((len(samples), *parts[0].shape[1:]), parts[0].dtype)
        for where, part in zip(positions.values(), parts, strict=True):
            out[where] = part
        return out

    def _map(
        self, fingerprint: str, view: int | str, shard_digest: str, group: int
    ) -> tuple[np.memmap[Any, Any], dict[str, int]]:
        path = self._path(fingerprint, view, shard_digest, group)
        state, receipt = self.state(path), self._receipt(path)
        if state == "damaged":
            storage.remove(path.with_suffix(".json"))
            raise WorkspaceError(f"features {path} are damaged; start the sweep again, it makes them again")
        if receipt is None:
            raise WorkspaceError(f"features {path} are missing; start the sweep again, it makes them")
        row_of = {sample_id: row for row, sample_id in enumerate(receipt.ids)}
        return np.load(storage.local(path), mmap_mode="r", allow_pickle=False), row_of

    def _receipt(self, path: UPath) -> GroupReceipt | None:
        try:
            receipt = storage.get_model(GroupReceipt, path.with_suffix(".json"))
            fits = path.stat().st_size == receipt.size and receipt.place in ((), self._place(path))
        except (FileNotFoundError, WorkspaceError):
            return None
        return receipt if fits else None

    def state(self, path: UPath, afresh: bool = False) -> GroupState:
        """Return how a group is; one that was only begun, without a receipt, counts as missing.

        Args:
            path: its .npy file.
            afresh: read it whole, also where it was verified on this machine before.
        """
        receipt = self._receipt(path)
        if receipt is None:
            return "damaged" if path.with_suffix(".json").exists() else "missing"
        return "whole" if digests.verified(path, receipt.sha256, afresh) else "damaged"

    @staticmethod
    def _place(path: UPath) -> tuple[str, ...]:
        return tuple(path.with_suffix("").parts[-4:])

    def _path(self, fingerprint: str, view: int | str, shard_digest: str, group: int) -> UPath:
        return self.root / fingerprint / str(view) / shard_digest / f"{group}.npy"


def _refuse_non_finite(recipe: MapRecipe, rows: npt.NDArray[Any], ids: Sequence[str]) -> None:
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    if not finite.all():
        bad = ids[int(np.argmin(finite))]
        raise DataError(
            f"{recipe.map} of {bad} has a value that is not finite as {recipe.stored}; look at the image or take it out"
        )
