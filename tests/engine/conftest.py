"""A data folder with six images of two sizes, and the store that extraction would make of it."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from upath import UPath

from dfloc.config import MapRecipe
from dfloc.data.dolos import Sample
from dfloc.data.manifest import SampleRef
from dfloc.data.writer import ShardJob, write_shard
from dfloc.features.store import TRUTH, FeatureStore, pack_bits, recipe_for
from dfloc.models import srm

SIZES = [(256, 256), (96, 160), (256, 256), (96, 160), (256, 256), (256, 256)]


class Data(NamedTuple):
    folder: UPath
    store: FeatureStore
    recipe: MapRecipe
    samples: list[SampleRef]
    fake: list[np.ndarray]
    x: torch.Tensor


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _fill_store(
    store: FeatureStore, recipe: MapRecipe, images: list[np.ndarray], fake: list[np.ndarray]
) -> torch.Tensor:
    backbone = srm.make("srm", "none", "cpu")
    maps = backbone(torch.stack([backbone.preprocess(image) for image in images]), ["stats"])["stats"]
    ids = [f"a/one/train/{k}.png" for k in range(len(images))]
    store.put(recipe, 0, "d", 0, maps.numpy(), ids)
    resized = [np.asarray(Image.fromarray(f.astype(np.uint8) * 255).resize((256, 256), 2)) > 127 for f in fake]
    store.put(TRUTH, 0, "d", 0, pack_bits(np.stack(resized)), ids)
    return maps.half().float()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    root = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    fake = [np.zeros(size, bool) for size in SIZES]
    for k, mask in enumerate(fake):
        mask[8 : 40 + 8 * k, 16:80] = True
    listed = []
    for k in range(len(SIZES)):
        image, mask = root / f"{k}.png", root / f"m{k}.png"
        image.write_bytes(_png(images[k]))
        mask.write_bytes(_png(np.where(fake[k], 0, 255).astype(np.uint8)))
        name = f"a/one/train/{k}.png"
        listed.append(Sample(name, f"a/{k}", f"a/{k}", "a/one", "train", image, mask, "fake_is_black"))
    folder = UPath(root / "shards")
    write_shard(ShardJob(folder / "0.parquet", listed))
    rows = pq.read_table(Path(folder.path) / "0.parquet").to_pylist()
    names = [name for name in SampleRef._fields if name in rows[0]]
    samples = [
        SampleRef(**{name: row[name] for name in names}, shard="0.parquet", shard_digest="d", group=0, row=k)
        for k, row in enumerate(rows)
    ]
    assert samples[0].image_sha256 == hashlib.sha256(_png(images[0])).hexdigest()
    store, recipe = FeatureStore(UPath(root / "features")), recipe_for("srm/stats")
    return Data(folder, store, recipe, samples, fake, _fill_store(store, recipe, images, fake))
