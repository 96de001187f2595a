"""Scores of probability maps, by named protocols."""
