import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from dfloc.data.check import COLUMNS, MARGIN, OUTLINE, TILE, check_shards, check_tree, contact_sheet
from dfloc.data.dolos import scan
from dfloc.data.manifest import Manifest, read_samples


def test_facts_are_those_of_the_masks(tiny_shards: UPath) -> None:
    facts = {(fact.domain, fact.split): fact for fact in check_shards(tiny_shards, Manifest.load(tiny_shards))}
    assert len(facts) == 9
    masks = (tiny_shards.parent / "tree/tiny/fake/noise/masks/train").iterdir()
    shares = [float(np.mean(np.asarray(Image.open(path)) == 0)) for path in masks]
    train = facts["tiny/noise", "train"]
    assert (train.images, train.photographs) == (10, 5)
    assert train.areas is not None
    assert train.areas.mean == pytest.approx(np.mean(shares))
    assert (train.areas.smallest, train.areas.largest) == (min(shares), max(shares))
    assert facts["tiny/real", "test"].areas == (0, 0, 0, 0)


def test_a_tree_is_counted(tiny_tree: Path) -> None:
    (tiny_tree / "tiny/real/valid/valid0-0.png").unlink()
    facts = check_tree(scan(tiny_tree))
    assert [(fact.domain, fact.split) for fact in facts][:3] == [(("tiny/blur"), s) for s in ("train", "valid", "test")]
    counts = {(fact.domain, fact.split): (fact.images, fact.photographs, fact.areas) for fact in facts}
    assert counts["tiny/real", "valid"] == (3, 2, None)


def test_contact_sheet_outlines_the_masks(tiny_shards: UPath) -> None:
    manifest = Manifest.load(tiny_shards)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(tiny_shards, manifest))))
    assert sheet.shape == (3 * (TILE + MARGIN), COLUMNS * TILE, 3)
    first = read_samples(tiny_shards, manifest, "tiny/blur", "test")[0].id.rpartition("/")[2]
    mask = np.asarray(Image.open(tiny_shards.parent / "tree/tiny/fake/blur/masks/test" / first))
    rows, columns = np.nonzero(mask == 0)
    scale = TILE / mask.shape[0]
    tile = sheet[MARGIN : MARGIN + TILE, :TILE]
    drawn_rows, drawn_columns = np.nonzero((tile == OUTLINE).all(axis=2))
    assert drawn_rows.min() == pytest.approx(rows.min() * scale, abs=2)
    assert drawn_rows.max() == pytest.approx((rows.max() + 1) * scale, abs=2)
    assert drawn_columns.min() == pytest.approx(columns.min() * scale, abs=2)
    assert drawn_columns.max() == pytest.approx((columns.max() + 1) * scale, abs=2)
    real = sheet[2 * (TILE + MARGIN) + MARGIN :]
    assert not (real == OUTLINE).all(axis=2).any()
