"""Scores of probability maps and of images, by named protocols."""

from dfloc.metrics.pairs import summarise_pair
from dfloc.metrics.protocols import counts, score
from dfloc.metrics.sets import by_area, summarise

__all__ = ["by_area", "counts", "score", "summarise", "summarise_pair"]
