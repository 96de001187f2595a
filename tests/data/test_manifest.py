import hashlib
import json
import shutil
from pathlib import Path

import pytest
from upath import UPath

from dfloc.data.leakage import in_two_splits, overlap
from dfloc.data.manifest import (
    Manifest,
    SampleRef,
    list_digest,
    read_areas,
    read_samples,
    shard_digest,
)
from dfloc.data.mixture import stem_rank
from dfloc.errors import ConfigError, DataError


def ref(name: str, mask: str = "m") -> SampleRef:
    return SampleRef(f"s/g/train/{name}", f"s/{name}", f"s/{name}", "s/g", "train", "i", mask, "real", "p", "d", 0, 0)


def test_list_digest_by_hand() -> None:
    text = "s/g/train/a\x1fi\x1fm\x1freal\ns/g/train/b\x1fi\x1f\x1freal\n"
    assert list_digest([ref("b", ""), ref("a")]) == hashlib.sha256(text.encode()).hexdigest()
    assert list_digest([ref("a"), ref("b", "")]) == list_digest([ref("b", ""), ref("a")])
    assert list_digest([ref("a")]) != list_digest([ref("a", "n")])


def test_shard_digest_knows_its_row_groups() -> None:
    samples = [ref("a"), ref("b")]
    by_hand = hashlib.sha256(f"{list_digest(samples)}\x1f1,1".encode()).hexdigest()
    assert shard_digest(samples, (1, 1)) == by_hand != shard_digest(samples, (2,))


def test_samples_lie_where_they_say_in_rank_order(tiny_shards: UPath) -> None:
    manifest = Manifest.load(tiny_shards)
    samples = read_samples(tiny_shards, manifest, "tiny/blur", "train")
    ranks = [stem_rank(sample.pair) for sample in samples]
    assert ranks == sorted(ranks)
    assert [(sample.group, sample.row) for sample in samples] == [(index // 4, index % 4) for index in range(10)]
    image = (tiny_shards.parent / "tree/tiny/fake/blur/images/train/train0-0.png").read_bytes()
    found = {sample.id: sample for sample in samples}["tiny/blur/train/train0-0.png"]
    assert found.image_sha256 == hashlib.sha256(image).hexdigest()
    assert (found.pair, found.stem) == ("tiny/train0-0", "tiny/train0")
    reals = read_samples(tiny_shards, manifest, "tiny/real", "train")
    assert {sample.mask_sha256 for sample in reals} == {""}


def test_manifest_comes_back_as_it_was_saved(tiny_shards: UPath, tmp_path: Path) -> None:
    manifest = Manifest.load(tiny_shards)
    manifest.save(UPath(tmp_path))
    assert Manifest.load(UPath(tmp_path)) == manifest
    assert manifest.local == ("tiny/blur", "tiny/noise")
    assert manifest.domains["tiny/real"].kind == "real"
    assert manifest.split("tiny/blur", "train").photographs == 5


def test_digest_of_the_manifest_is_of_what_is_held(tiny_shards: UPath) -> None:
    manifest = Manifest.load(tiny_shards)
    assert manifest.model_copy(update={"notes": ("a note",)}).digest == manifest.digest
    fewer = {name: info for name, info in manifest.domains.items() if name != "tiny/real"}
    assert manifest.model_copy(update={"domains": fewer}).digest != manifest.digest


def test_names_that_are_not_there(tiny_shards: UPath) -> None:
    manifest = Manifest.load(tiny_shards)
    with pytest.raises(ConfigError, match='unknown domain "tiny/blurr"; did you mean "tiny/blur"'):
        manifest.split("tiny/blurr", "train")
    with pytest.raises(DataError, match="no split extra; it has test, train, valid"):
        manifest.split("tiny/blur", "extra")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"domains": {}, "colour": 1}', '{"version": 2, "domains": {}}'])
def test_damaged_manifest(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="dfloc data import"):
        Manifest.load(UPath(tmp_path))
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="damaged"):
        Manifest.load(UPath(tmp_path))


def test_a_manifest_of_which_one_number_changed_is_refused_and_one_of_before_is_read(
    tiny_shards: UPath, tmp_path: Path
) -> None:
    manifest = Manifest.load(tiny_shards)
    manifest.save(UPath(tmp_path))
    assert Manifest.load(UPath(tmp_path)) == manifest
    path = tmp_path / "manifest.json"
    written = path.read_text()
    path.write_text(written.replace('"count": 10', '"count": 90', 1))
    with pytest.raises(DataError, match="is damaged: not what was written; delete it and import again"):
        Manifest.load(UPath(tmp_path))
    before = {key: value for key, value in json.loads(written).items() if key != "sealed"}
    path.write_text(json.dumps(before))
    assert Manifest.load(UPath(tmp_path)) == manifest


def test_shards_that_are_not_the_manifests(tiny_shards: UPath, tmp_path: Path) -> None:
    folder = UPath(tmp_path / "copy")
    shutil.copytree(tiny_shards, folder)
    manifest = Manifest.load(folder)
    shutil.copy(folder / "tiny/blur/valid-00000.parquet", folder / "tiny/blur/test-00000.parquet")
    with pytest.raises(DataError, match=r"tiny/blur/test .* not those of its manifest"):
        read_samples(folder, manifest, "tiny/blur", "test")
    shutil.copy(folder / "tiny/blur/train-00000.parquet", folder / "tiny/blur/test-00000.parquet")
    with pytest.raises(DataError, match="10 rows, not the manifest's 4"):
        read_samples(folder, manifest, "tiny/blur", "test")
    whole = (folder / "tiny/blur/train-00000.parquet").read_bytes()
    (folder / "tiny/blur/train-00000.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot read shard"):
        read_samples(folder, manifest, "tiny/blur", "train")
    (folder / "tiny/blur/train-00000.parquet").unlink()
    with pytest.raises(DataError, match="cannot read shard"):
        read_areas(folder, manifest.split("tiny/blur", "train"))


def test_photographs_in_two_splits() -> None:
    places = [("s/b", "train"), ("s/a", "test"), ("s/a", "test"), ("s/b", "valid"), ("s/c", "train")]
    assert in_two_splits(places) == [("s/b", ("train", "valid"), False)]


def test_overlap_looks_at_the_domains_it_is_given(tiny_shards: UPath) -> None:
    manifest = Manifest.load(tiny_shards)
    assert overlap(tiny_shards, manifest, manifest.domains) == []
    real = manifest.domains["tiny/real"]
    swapped = real.model_copy(update={"splits": {"test": real.splits["valid"]}})
    crossed = manifest.model_copy(update={"domains": {**manifest.domains, "tiny/real": swapped}})
    found = overlap(tiny_shards, crossed, ["tiny/real", "tiny/blur"])
    assert found == [(f"tiny/valid{k}", ("test", "valid"), False) for k in (0, 1)]
    assert overlap(tiny_shards, crossed, ["tiny/real"]) == []
