"""Masks that need a word from the user: what an import says of them, and what check and plan say afterwards."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from dfloc.data.folder_pairs import read_pair
from dfloc.data.importer import import_samples
from dfloc.data.manifest import Manifest
from dfloc.errors import ConfigError, DataError
from dfloc.sweep.data import Shards
from tests.cases.masks import CASES, FAKE, encoded, two
from tests.cli.test_data import refused, run

NAMES = ("a", "b", "c", "d")


def write_pair(root: Path, masks: list[bytes], turns: dict[str, int] | None = None) -> Path:
    for name, mask in zip(NAMES, masks, strict=True):
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
        tags = Image.Exif()
        tags[0x0112] = (turns or {}).get(name, 1)
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (*FAKE.shape, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"images/{name}.png", exif=tags)
        (root / f"masks/{name}.png").write_bytes(mask)
    return root


@pytest.mark.ray
def test_an_import_of_masks_in_other_values(tmp_path: Path, ray_local: None) -> None:
    """Refused with the cure, taken with it; what is odd is counted in import, check, plan and report alike."""
    stored, upright = encoded(two(0, 1)), encoded(np.rot90(two(0, 1), -1))
    masks = [stored, upright, encoded(0 * two(0, 1)), encoded(two(1, 1))]
    pair = write_pair(tmp_path / "pair", masks, {"a": 6, "b": 6})
    words = (pair, "--out", tmp_path / "shards", "--domain", "my/sd", "--split", "test")
    said = refused("import", *words, "--fake-is", "white")
    assert "3 of 4 images cannot be used" in said
    assert "say which is fake: --fake-is 1" in said
    result = run("import", *words, "--fake-is", "1")
    assert result.exit_code == 0, result.output
    odd = (
        "my/sd: EXIF turns 2 images; masks of 1 as shown, masks of 1 as stored",
        "Warning: my/sd: 1 of 4 masks have no fake pixel; is that right?",
        "Warning: my/sd: 1 of 4 masks have only fake pixels; is that right?",
        "Warning: my/sd: where EXIF turns an image, its mask is turned too in some (1 as stored), and lies as shown in "
        "others (1)",
    )
    folder = UPath(tmp_path / "shards")
    for output in (result.output, run("check", folder).output):
        assert [line for line in odd if line not in output] == []
        assert output.count("no fake pixel") == 1
    manifest = Manifest.load(folder)
    assert manifest.domains["my/sd"].mask_kind == "fake_is=1"
    assert manifest.domains["my/sd"].fake_area == (2 * FAKE.mean() + 1) / 4
    manifest.model_copy(update={"notes": ()}).save(folder)
    notes = Shards(folder, "old").notes(["my/sd"])
    assert [f"Warning: {note}" for note in notes] == list(odd[1:3]), "what shards of any version show"
    assert "1 of 4 masks have no fake pixel" in run("check", folder).output
    own = f"my/sd={pair},fake=1,split=test"
    assert import_samples(read_pair(own), folder).unchanged == 4, "the same words of --own are the same import"
    with pytest.raises(DataError, match="mask of 96x64 for an image of 64x96"):
        import_samples(read_pair(f"{own},masks-are=shown"), folder)


@pytest.mark.parametrize(
    ("words", "mask_kind", "way"),
    [
        ("fake=white", "fake_is_white", None),
        ("fake=1,2,split=test", "fake_is=1,2", None),
        ("split=test,fake=2+1,masks-are=stored", "fake_is=1,2", "stored"),
        ("masks-are=shown,fake=0xFF0000,3,split=test", "fake_is=3,0xff0000", "shown"),
        ("fake=nonzero", "fake_is=nonzero", None),
        ("fake=alpha", "fake_is=alpha", None),
    ],
)
def test_own_says_the_same_words(words: str, mask_kind: str, way: str | None, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, [CASES["labels"]().data] * 4)
    samples = read_pair(f"my/sd={pair},{words}", otherwise="test")
    assert len(samples) == 4
    assert {(sample.mask_kind, sample.masks_are) for sample in samples} == {(mask_kind, way)}


@pytest.mark.parametrize("words", ["fake=1,x", "fake=1,", "fake=white,masks-are=turned", "fake=red", "fake=-1"])
def test_own_refuses_other_words(words: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, [CASES["labels"]().data] * 4)
    with pytest.raises(ConfigError, match=r"names no folder pair: expected .*nonzero.*masks-are=stored"):
        read_pair(f"my/sd={pair},{words}", otherwise="test")


def test_import_refuses_other_words(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, [CASES["labels"]().data] * 4)
    words = (pair, "--out", tmp_path / "s", "--domain", "my/sd", "--split", "test")
    assert "expected black|white|nonzero|alpha|VALUE" in refused("import", *words, "--fake-is", "grey")
    assert run("import", *words, "--fake-is", "1", "--masks-are", "turned").exit_code == 2
