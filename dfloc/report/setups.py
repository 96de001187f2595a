"""The setups and methods of the Dolos paper, read off what a trial trains on and by: of no stage's or case's name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from dfloc.config import DecoderSpec, TrialSpec
from dfloc.data import dolos
from dfloc.report import recipe

PATCHES = "Xception to block 2 + 1x1"
GRADCAM = "Xception, Grad-CAM on block 11; C: FCN head"
ATTENTION = "Xception with attention map after block 7"
STEPS = 500  # what Dolos calls an epoch

METHODS: Mapping[str, Callable[[DecoderSpec], bool]] = {
    PATCHES: lambda found: (found.name, found.block) == ("xception", 2),
    GRADCAM: lambda found: (
        (found.name, found.model) == ("timm", "legacy_xception") or (found.name, found.block) == ("xception-fcn", 11)
    ),
    ATTENTION: lambda found: (found.name, found.block) == ("xception-attention", 7),
}
"""By the words of the published tables, whether a decoder is of a method."""

_KINDS: Mapping[tuple[str, ...], str] = {("full", "real"): "A", ("local", "real"): "B"}
_SHARED = {"schedule": "constant", "selection": "loss"}
_WEAK = {"read from": ["pixels299"], "augmentation": "flip"}
_OWN = {"targets": "own", "read from": ["pixels"], "augmentation": "none", "batch": 16, "loss": "bce"}
RECIPES: Mapping[tuple[str, bool], Mapping[str, Any]] = {
    (PATCHES, True): _OWN | {"optimizer": "adam 0.001"},
    (PATCHES, False): _OWN | _WEAK | {"optimizer": "adam 0.001", "targets": "label", "batch": 64, "init": "patches"},
    (GRADCAM, True): _OWN | {"optimizer": "adam 0.001"},
    (GRADCAM, False): _OWN | _WEAK | {"optimizer": "adam 0.001", "loss": "ce", "batch": 32},
    (ATTENTION, True): _OWN | {"optimizer": "adam 0.0003"},
    (ATTENTION, False): _OWN | {"optimizer": "adam 0.0001", "loss": "attention"},
}
"""How Dolos trains a method with masks (True) or with labels alone; source: the paper, 5.1, and the authors' code."""


USED: Mapping[str, frozenset[str]] = {
    "A": frozenset({"p2"}),
    "B": frozenset({"repaint-p2", "repaint-p2-9k"}),
    "C": frozenset({"repaint-p2"}),
}
"""What made the fakes that Dolos trains a setup on; for B the first of FFHQ, the second of CelebA-HQ."""


def method(words: str) -> str:
    """Return the method that a published table's words name; empty: none of Dolos'."""
    return next((name for name in METHODS if name in words), "")


def is_method(words: str, spec: TrialSpec) -> bool:
    """Return whether a spec is of the method that a published table's words name."""
    return METHODS[method(words)](spec.decoder)


def trained(spec: TrialSpec) -> frozenset[str]:
    """Return the domains that a trial trains on."""
    return frozenset(domain for domain, count in spec.train.counts.items() if count)


def generators(spec: TrialSpec) -> set[str]:
    """Return what made the fakes that a trial trains on: the second half of their domains."""
    return {domain.partition("/")[2] for domain in trained(spec)} - {dolos.REAL}


MASKS = "C"
"""The setup of masks."""


def setup(spec: TrialSpec, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what a localizer is trained with, as Dolos calls it; empty: with something else.

    A: labels of reals and of wholly generated fakes. B: labels of reals and of local fakes. C: masks of local fakes.
    A composite is trained with nothing.

    Args:
        spec: of the trial.
        known: kinds of domains whose name does not tell it.
    """
    if spec.parts:
        return ""
    kinds = tuple(sorted({known.get(domain) or dolos.named_kind(domain) for domain in trained(spec)}))
    if spec.targets == "label" or spec.task == "detect":
        return _KINDS.get(kinds, "")
    return MASKS if kinds == ("local",) and spec.targets == "own" else ""


def recipe_of(words: str, spec: TrialSpec) -> dict[str, Any]:
    """Return how the published model of a method was trained, as far as its document or code says, by `found_in`."""
    weak = setup(spec) in ("A", "B")
    counts = {domain: max(300, count // 10) for domain, count in spec.train.counts.items()}
    if weak:
        counts |= {domain: 1000 for domain in counts if dolos.named_kind(domain) == "full"}
    found = RECIPES[method(words), not weak]
    return {"optimizer": found["optimizer"], **_SHARED, **found, "validated on": counts}


def found_in(spec: TrialSpec) -> dict[str, Any]:
    """Return the fields of a trial that only recipes of Dolos name."""
    return {
        "read from": [each.map.rstrip("/") for each in spec.maps],
        "loss": recipe.loss(spec.loss),
        "augmentation": " + ".join(op.name for op in spec.augment.ops) if spec.augment else "none",
    }
