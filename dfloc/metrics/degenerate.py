"""Maps that say nothing (all fake, empty, constant), and what calling every pixel fake scores on the same images."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dfloc.errors import DataError
from dfloc.metrics import image_rows, protocols
from dfloc.metrics.protocols import COUNTS
from dfloc.metrics.table import Array, Table, column, known

MOST = 0.9  # of the maps of a set: more of one kind and the set is degenerate
ALL_FAKE = "all-fake"  # the baseline that calls every pixel fake, and is not told so
SAME = frozenset({ALL_FAKE, "prior"})  # what says the same of every image by its nature, which is no collapse
EQUAL = 1e-12  # what rounding leaves of a difference of equal means
SPREAD = 1e-6  # of probabilities: what rounding leaves of a constant map


class DegenerateMaps(NamedTuple):
    """How many maps of a set say nothing.

    Attributes:
        maps: of the set.
        all_fake: maps that call every pixel fake.
        empty: maps that call none fake.
        constant: maps with one probability everywhere.
        recorded: maps of which it is recorded whether they are constant; rows of earlier versions do not say it.
    """

    maps: int = 0
    all_fake: int = 0
    empty: int = 0
    constant: int = 0
    recorded: int = 0

    @property
    def word(self) -> str:
        """What over 90 % of the maps are: all fake or empty, and constant; empty where they are none of it."""
        shares = {"all fake": (self.all_fake, self.maps), "empty": (self.empty, self.maps)}
        shares["constant"] = (self.constant, self.recorded)
        return ", ".join(word for word, (part, whole) in shares.items() if part > MOST * whole)


def kinds(rows: Table, *, partly_fake: bool = False) -> DegenerateMaps:
    """Count the maps of some rows, one for each, that say nothing; rows of images as a whole have no maps.

    Args:
        rows: of any images.
        partly_fake: count those of images alone that are fake in part: of one without a fake pixel, or without a real
            one, a map of one kind can be right, and tells nothing of a collapse.

    Raises:
        DataError: a column is missing, other than `spread`, which earlier versions did not write.
    """
    if _has_no_maps(rows):
        return DegenerateMaps()
    tp, fp, fn, tn = (column(rows, name) for name in COUNTS)
    try:
        spread = column(rows, "spread").astype(np.float64)
    except DataError:
        spread = np.full(len(tp), np.nan)
    counted = (tp + fn > 0) & (fp + tn > 0) if partly_fake else np.full(len(tp), True)
    return DegenerateMaps(
        maps=int(counted.sum()),
        all_fake=int((counted & (fn + tn == 0)).sum()),
        empty=int((counted & (tp + fp == 0)).sum()),
        constant=int((counted & (spread <= SPREAD)).sum()),
        recorded=int((counted & ~np.isnan(spread)).sum()),
    )


def together(sets: Iterable[DegenerateMaps]) -> DegenerateMaps:
    """Return the counts of several sets as one."""
    return DegenerateMaps(*(sum(counts) for counts in zip(*sets, strict=True)))


def word(tables: Iterable[Table]) -> str:
    """Return what over 90 % of the maps of some sets are, or what a model of images calls those of every class.

    Args:
        tables: rows of every set; maps are told by images that are fake in part, classes by all sets together.

    Returns:
        "all fake" and "empty" and "constant", "all real" or "all FAMILY"; empty where they are none of it.

    Raises:
        DataError: a column is missing.
    """
    every = list(tables)
    if every and all(known(rows, "score") for rows in every):  # with explanations or without
        called = image_rows.together(map(image_rows.called, every))
        return f"all {called.collapsed}" if called and called.collapsed else ""
    return together(kinds(rows, partly_fake=True) for rows in every).word


def all_fake(rows: Table, protocol: str) -> dict[str, Array]:
    """Return what a map that calls every pixel fake scores on the image of each row, as the protocol measures it.

    No such map is needed: the truth's fake pixels and all its pixels stand in every row, whoever made its map.

    Returns:
        The protocol's keys that these settle, each one value per row; NaN where the protocol has it so.

    Raises:
        DataError: a column is missing.
        ConfigError: the protocol is unknown.
    """
    if _has_no_maps(rows):
        return {}
    tp, fp, fn, tn = (column(rows, name).astype(np.int64) for name in COUNTS)
    return protocols.find(protocol).all_fake(tp + fn, tp + fp + fn + tn)


def _has_no_maps(rows: Table) -> bool:
    return known(rows, "score") and not known(rows, COUNTS[0])
