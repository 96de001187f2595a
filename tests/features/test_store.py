import hashlib
import json
import os
import pickle

import numpy as np
import pytest
from upath import UPath

from dfloc import registry
from dfloc.config import MapRecipe
from dfloc.data.manifest import SampleRef
from dfloc.engine.batches import StoredMaps
from dfloc.errors import ConfigError, DataError, WorkspaceError
from dfloc.features.store import (
    MAX_OPEN_MAPS,
    TRUTH,
    FeatureStore,
    bytes_of,
    pack_bits,
    recipe_for,
    target,
    unpack_bits,
)

RECIPE = MapRecipe(map="fake/map", weights="none", input_size=8, resize="none", semantics={"decode": 1})
IDS = ("d/test/a.png", "d/test/b.png", "d/test/c.png")


def _sample(name: str, row: int, group: int = 0, digest: str = "one") -> SampleRef:
    pair = name.removesuffix(".png")
    return SampleRef(name, pair, pair, "d", "test", "", "", "real", "shard", digest, group, row)


def _rows(seed: int, num: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, 2, 4, 4)).astype(np.float32)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(UPath(tmp_path))


def _files(store: FeatureStore, group: int = 0) -> tuple[UPath, UPath]:
    folder = store.root / RECIPE.fingerprint / "0" / "one"
    return folder / f"{group}.npy", folder / f"{group}.json"


def test_layout_and_receipt_can_be_read_without_dfloc(store) -> None:
    rows = _rows(0)
    store.put(RECIPE, 0, "one", 0, rows, IDS)
    data, receipt = _files(store)
    told = json.loads(receipt.read_text())
    assert np.array_equal(np.load(data.path), rows.astype(np.float16))
    assert told["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert (told["shape"], told["dtype"], tuple(told["ids"])) == ([3, 2, 4, 4], "float16", IDS)
    assert told["size"] == data.stat().st_size


def test_group_is_a_read_only_memory_map(store) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    rows = store.group(RECIPE, 0, "one", 0)
    assert isinstance(rows, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


def test_recipes_views_shards_and_groups_do_not_meet(store) -> None:
    other = RECIPE.model_copy(update={"weights": "random:1"})
    places = [(RECIPE, 0, "one", 0), (other, 0, "one", 0), (RECIPE, 1, "one", 0), (RECIPE, 0, "two", 0)]
    for seed, place in enumerate(places):
        store.put(*place, _rows(seed), IDS)
    assert not store.has(RECIPE, 0, "one", 1)
    for seed, place in enumerate(places):
        assert np.array_equal(store.group(*place), _rows(seed).astype(np.float16))


def test_gather_gives_rows_in_the_order_asked_with_repetitions(store) -> None:
    first, second, third = _rows(1), _rows(2), _rows(3)
    store.put(RECIPE, 0, "one", 0, first, IDS)
    store.put(RECIPE, 0, "one", 1, second, IDS)
    store.put(RECIPE, 0, "two", 0, third, IDS)
    a, b, c = IDS
    asked = [_sample(c, 2, 1), _sample(a, 0), _sample(b, 1, 0, "two"), _sample(a, 0, 1), _sample(c, 2), _sample(a, 0)]
    expected = np.stack([second[2], first[0], third[1], second[0], first[2], first[0]])
    got = store.gather(RECIPE, asked)
    assert np.array_equal(got, expected.astype(np.float16))
    got[:] = 0
    assert np.array_equal(store.gather(RECIPE, asked), expected.astype(np.float16))


def test_vectors_are_rows_of_their_own(store) -> None:
    recipe = recipe_for("clip-vit-l14/projected", "random:0")
    rows = np.random.default_rng(0).normal(size=(3, 768)).astype(np.float32)
    receipt = store.put(recipe, 0, "one", 0, rows, IDS)
    assert receipt.shape == (3, 768)
    asked = [_sample(IDS[2], 2), _sample(IDS[0], 0)]
    assert np.array_equal(store.gather(recipe, asked), rows[[2, 0]].astype(np.float16))
    x_BC11 = StoredMaps(store, [recipe]).read(asked)
    assert x_BC11.shape == (2, 768, 1, 1)
    assert np.array_equal(x_BC11.numpy()[:, :, 0, 0], rows[[2, 0]].astype(np.float16).astype(np.float32))
    assert bytes_of(recipe) == 2 * 768
    rows[1, 5] = np.nan
    with pytest.raises(DataError, match=r"clip-vit-l14/projected of d/test/b.png has a value that is not finite"):
        store.put(recipe, 0, "one", 1, rows, IDS)


@pytest.mark.parametrize(("row", "name"), [(1, IDS[0]), (3, IDS[0]), (0, "d/test/z.png")])
def test_gather_refuses_a_row_that_holds_another_sample(store, row: int, name: str) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    with pytest.raises(WorkspaceError, match=f"row {row} of .* is not {name}"):
        store.gather(RECIPE, [_sample(name, row)])


def test_what_is_missing_is_an_error_that_names_the_file(store) -> None:
    with pytest.raises(WorkspaceError, match=r"one/0\.npy are missing"):
        store.group(RECIPE, 0, "one", 0)


def _cut(path: UPath) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _empty(path: UPath) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [_cut, _empty, UPath.unlink])
@pytest.mark.parametrize("which", [0, 1])
def test_a_truncated_or_lost_file_counts_as_missing_and_can_be_put_again(store, which: int, spoil) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    spoil(_files(store)[which])
    assert not store.has(RECIPE, 0, "one", 0)
    assert store.whole([(RECIPE, 0, "one", 0)]) == [False]
    with pytest.raises(WorkspaceError):
        store.gather(RECIPE, [_sample(IDS[0], 0)])
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    assert store.whole([(RECIPE, 0, "one", 0)]) == [True]


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"shape": 1}', "\ufeff", "NaN"])
def test_a_receipt_that_is_none_counts_as_missing(store, text: str) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    _files(store)[1].write_text(text)
    assert not store.has(RECIPE, 0, "one", 0)


def test_verify_notices_a_flipped_bit_that_has_does_not(store) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    data = _files(store)[0]
    spoilt = bytearray(data.read_bytes())
    spoilt[-1] ^= 1
    data.write_bytes(bytes(spoilt))
    assert store.has(RECIPE, 0, "one", 0)
    assert store.whole([(RECIPE, 0, "one", 0)]) == [False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e6])
def test_a_value_that_is_not_finite_names_its_sample_and_writes_nothing(store, value: float) -> None:
    rows = _rows(0)
    rows[1, 0, 2, 2] = value
    with pytest.raises(DataError, match=r"fake/map of d/test/b\.png .*float16"):
        store.put(RECIPE, 0, "one", 0, rows, IDS)
    assert not store.has(RECIPE, 0, "one", 0)
    assert not any(store.root.iterdir())


def test_the_recipe_says_in_which_dtype_it_is_stored(store) -> None:
    exact = RECIPE.model_copy(update={"stored": "float32"})
    store.put(exact, 0, "one", 0, _rows(0), IDS)
    assert np.array_equal(store.group(exact, 0, "one", 0), _rows(0))


def test_a_store_travels_without_what_it_has_open(store) -> None:
    store.put(RECIPE, 0, "one", 0, np.zeros((3, 2, 256, 256)), IDS)
    store.group(RECIPE, 0, "one", 0)
    sent = pickle.dumps(store)
    assert len(sent) < 2000
    assert pickle.loads(sent).has(RECIPE, 0, "one", 0)


def test_more_groups_than_file_descriptors_can_be_read(store) -> None:
    resource = pytest.importorskip("resource")
    num = MAX_OPEN_MAPS + 40
    for group in range(num):
        store.put(RECIPE, 0, "one", group, _rows(group, 1), IDS[:1])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft), hard))
    try:
        got = store.gather(RECIPE, [_sample(IDS[0], 0, group) for group in range(num)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert np.array_equal(got[-1], _rows(num - 1, 1)[0].astype(np.float16))


def test_bits_are_packed_along_the_flattened_image() -> None:
    mask = np.zeros((2, 256, 256), bool)
    mask[0, 0, 0] = mask[0, 0, 9] = mask[1, 1, 7] = True
    packed = pack_bits(mask)
    assert packed.shape == (2, 8192)
    assert (packed[0, 0], packed[0, 1], packed[1, 32]) == (128, 64, 1)
    assert packed.sum() == 193
    assert np.array_equal(unpack_bits(packed), mask)


def test_truth_is_stored_as_bits(store) -> None:
    mask = np.random.default_rng(0).random((3, 256, 256)) > 0.5
    store.put(TRUTH, 0, "one", 0, pack_bits(mask), IDS)
    got = store.gather(TRUTH, [_sample(IDS[2], 2), _sample(IDS[0], 0)])
    assert np.array_equal(unpack_bits(got), mask[[2, 0]])


def test_target_is_fake_above_the_middle_and_resized_before() -> None:
    native = np.zeros((256, 256), np.uint8)
    native[0, :3] = 127, 128, 255
    assert target(native)[0, :4].tolist() == [False, True, True, False]
    halves = np.zeros((64, 128), np.uint8)
    halves[:, 64:] = 255
    expected = np.zeros((256, 256), bool)
    expected[:, 128:] = True
    assert np.array_equal(target(halves), expected)
    checkers = np.indices((512, 512)).sum(axis=0) % 2 * 255
    shares = target(np.where(np.arange(512) < 256, 0, checkers).astype(np.uint8))
    assert not shares[:, :127].any()


def test_recipe_holds_what_determines_the_numbers() -> None:
    recipe, row = recipe_for("srm/stats"), registry.backbone("srm")
    assert (recipe.input_size, recipe.resize, recipe.weights) == (256, "pil-bilinear", "none")
    assert recipe.semantics == {"decode": registry.SEMANTICS["decode"], "adapter": row.semantics}
    assert recipe_for("srm/stats").weights == "none"
    assert recipe_for("clip-rn50/layer3", "random:3").weights == "random:3"
    assert recipe.fingerprint != recipe_for("srm/variance").fingerprint


@pytest.mark.parametrize(("name", "hint"), [("smr/stats", "srm"), ("srm/stat", "stats"), ("srm", "stats")])
def test_an_unknown_map_says_what_is_near(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        recipe_for(name)


def test_the_folder_of_a_recipe_never_changes() -> None:
    fields = {
        "compute": "uint8",
        "input_size": 256,
        "map": "truth/mask256",
        "resize": "pil-bilinear",
        "semantics": {"decode": 1, "target": 1},
        "stored": "bits",
        "weights": "none",
    }
    text = json.dumps(fields, separators=(",", ":"))
    assert TRUTH.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    del fields["compute"], fields["stored"]
    fields |= {"map": "srm/stats", "semantics": {"adapter": 1, "decode": 1}}
    text = json.dumps(fields, separators=(",", ":"))
    assert recipe_for("srm/stats").fingerprint == hashlib.sha256(text.encode()).hexdigest()


def _spoil(path: UPath) -> None:
    """Turn a bit of a stored file in place, and let its size and its time of change be what they were."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path.path, ns=(before.st_mtime_ns, before.st_mtime_ns))


def test_a_damaged_group_is_not_read_and_is_made_again(store) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    store.put(RECIPE, 0, "one", 1, _rows(1), IDS)
    assert store.whole([(RECIPE, 0, "one", group) for group in (0, 1, 2)]) == [True, True, False]
    assert store.damaged == set()
    _spoil(_files(store)[0])
    assert store.whole([(RECIPE, 0, "one", group) for group in (0, 1, 2)]) == [False, True, False]
    assert store.damaged == {str(_files(store)[0])}
    states = {path: store.state(path) for path in store.files()}
    assert states == {_files(store)[0]: "damaged", _files(store, 1)[0]: "whole"}
    with pytest.raises(WorkspaceError, match=r"one/0\.npy are damaged; start the sweep again, it makes them again"):
        store.gather(RECIPE, [_sample(IDS[0], 0)])
    assert not store.has(RECIPE, 0, "one", 0), "a worker takes out what it finds damaged"
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    assert np.array_equal(store.gather(RECIPE, [_sample(IDS[0], 0)])[0], _rows(0)[0].astype(np.float16))


@pytest.mark.parametrize("which", [["npy"], ["json"], ["npy", "json"]])
def test_groups_that_changed_places_are_damaged(store, which: list[str]) -> None:
    other = RECIPE.model_copy(update={"weights": "random:1"})
    places = [(RECIPE, 0, "one", 0), (RECIPE, 0, "one", 1), (RECIPE, 1, "one", 0), (RECIPE, 0, "two", 0)]
    places.append((other, 0, "one", 0))
    for seed, place in enumerate(places):
        store.put(*place, _rows(seed), IDS)
    first = store._path(RECIPE.fingerprint, 0, "one", 0)
    for recipe, *where in places[1:]:
        kept = {kind: first.with_suffix(f".{kind}").read_bytes() for kind in which}
        for kind in which:
            source = store._path(recipe.fingerprint, *where).with_suffix(f".{kind}")
            first.with_suffix(f".{kind}").write_bytes(source.read_bytes())
        assert store.whole(places[:1]) == [False]
        assert store.whole(places[1:]) == [True] * 4
        with pytest.raises(WorkspaceError, match="are damaged"):
            FeatureStore(store.root).group(*places[0])
        store.put(*places[0], _rows(0), IDS)
        assert kept.keys() == set(which)


def test_a_receipt_of_before_is_believed_of_its_bytes(store) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    data, receipt = _files(store)
    told = json.loads(receipt.read_text())
    del told["sealed"], told["place"]
    receipt.write_text(json.dumps(told))
    assert store.whole([(RECIPE, 0, "one", 0)]) == [True]
    assert np.array_equal(store.gather(RECIPE, [_sample(IDS[0], 0)])[0], _rows(0)[0].astype(np.float16))
    _spoil(data)
    assert store.whole([(RECIPE, 0, "one", 0)]) == [False]


def test_bits_that_turn_in_a_stored_group_change_no_number(store) -> None:
    store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
    asked = [_sample(IDS[2], 2), _sample(IDS[0], 0)]
    right = store.gather(RECIPE, asked)
    draw = np.random.default_rng(0)
    for file in _files(store):
        data, refused = file.read_bytes(), 0
        for bit in draw.choice(8 * len(data), 150, replace=False):
            spoilt = bytearray(data)
            spoilt[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bytes(spoilt))
            try:
                assert np.array_equal(FeatureStore(store.root).gather(RECIPE, asked), right)
            except WorkspaceError:
                refused += 1
                store.put(RECIPE, 0, "one", 0, _rows(0), IDS)
        assert refused > 100
        file.write_bytes(data)


def test_what_takes_long_is_said_once(store, monkeypatch) -> None:
    for group in range(3):
        store.put(RECIPE, 0, "one", group, _rows(group), IDS)
    said: list[str] = []
    places = [(RECIPE, 0, "one", group) for group in range(3)]
    assert FeatureStore(store.root, said.append).whole(places) == [True] * 3
    assert said == []
    monkeypatch.setattr("dfloc.features.store.PATIENCE_SECONDS", 0.0)
    assert FeatureStore(store.root, said.append).whole(places) == [True] * 3
    assert said == ["verifying 3 groups of stored features, once on this machine"]
