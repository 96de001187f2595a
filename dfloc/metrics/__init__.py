"""Scores of probability maps, by named protocols."""

from dfloc.metrics.protocols import counts, score
from dfloc.metrics.sets import by_area, summarise

__all__ = ["by_area", "counts", "score", "summarise"]
