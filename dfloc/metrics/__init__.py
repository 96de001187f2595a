"""Scores of probability maps, by named protocols."""

from dfloc.metrics.protocols import counts, score, summarise

__all__ = ["counts", "score", "summarise"]
