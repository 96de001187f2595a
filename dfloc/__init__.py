"""Distributed, resumable sweeps for deepfake localization studies."""

__version__ = "0.1.0"
