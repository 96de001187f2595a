import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from dfloc.data.check import (
    COLUMNS,
    MARGIN,
    OUTLINE,
    TILE,
    SplitFacts,
    against_dolos,
    check_shards,
    check_tree,
    contact_sheet,
    with_missing,
)
from dfloc.data.dolos import SPLITS, scan
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


def test_counts_beside_those_of_dolos() -> None:
    facts = [
        SplitFacts("celebahq/repaint-p2", "train", 30_000, 10_000),
        SplitFacts("celebahq/repaint-p2", "test", 8472, 900),
        SplitFacts("mine/sd", "train", 7, 7),
        SplitFacts("celebahq/lama", "train", 9000, 9000),
        SplitFacts("celebahq/lama", "valid", 899, 899),
        SplitFacts("celebahq/lama", "test", 900, 900),
    ]
    shown = with_missing(facts)
    lines = [(fact.domain, fact.split, fact.expected and fact.expected.printed, fact.differs) for fact in shown]
    assert lines == [
        ("celebahq/repaint-p2", "train", "30k", False),
        ("celebahq/repaint-p2", "valid", "3k", True),
        ("celebahq/repaint-p2", "test", "8.5k", False),
        ("mine/sd", "train", None, False),
        ("celebahq/lama", "train", "9k", False),
        ("celebahq/lama", "valid", "900", True),
        ("celebahq/lama", "test", "900", False),
    ]
    differ, absent = against_dolos(shown)
    assert differ.startswith("Warning: other counts than those of Dolos")
    assert "celebahq/repaint-p2 valid 0 (3k), celebahq/lama valid 899 (900)" in differ
    rest = ["real", "p2", "repaint-p2-9k", "ldm", "pluralistic"]
    names = [*(f"celebahq/{name}" for name in rest), "ffhq/real", "ffhq/p2", "ffhq/repaint-p2"]
    assert absent == f"of Dolos, absent: {', '.join(names)}"


def test_own_data_are_not_compared_and_equal_counts_are_said() -> None:
    assert against_dolos([SplitFacts("mine/sd", "train", 7, 7)]) == []
    ldm = [
        SplitFacts("celebahq/ldm", split, count, count) for split, count in zip(SPLITS, (8900, 900, 900), strict=True)
    ]
    assert against_dolos(ldm)[0].startswith("all counts are those of Dolos")


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
