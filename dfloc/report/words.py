"""What a field and its value are called: one answer for tables, captions, figures and sentences."""

import re
from collections.abc import Iterable

from dfloc.axis import Value
from dfloc.config import TrialSpec
from dfloc.report import recipe

LABELS = {
    "maps": "features",
    "init": "start",
    "augment": "augmentation",
    "optimizer.lr": "learning rate",
    "epoch_steps": "steps of an epoch",
    "select": "selection",
}
UNTELLING = ("all", "auto", "default", "own", "shuffled")  # words that say nothing without their field
BACKBONES = frozenset({"clip", "vit", "rn50", "sam2", "srm", "pixels"})  # words of cases that say what is read
PLUGIN = re.compile(r",? ?plugin=[\w:]+")
CUT = re.compile(r"~[0-9a-f]{12}$|\b(?:random:)?[0-9a-f]{64}\b")
LIST = re.compile(r"\[([^\[\]]*)\]")


def label(path: str) -> str:
    """Return what the field of a spec is called: learning rate, decoder channels."""
    return LABELS.get(path, path.removesuffix(".name").replace(".", " ").replace("_", " "))


def named(axis: str, value: Value) -> str:
    """Return an axis with its value: depth = 12, no blur; a plain word, such as a loss, stands alone.

    An axis that is no field's path is called as its user calls it.
    """
    path = axis.removeprefix("trial.")
    of = LABELS.get(path, path.rpartition(".")[2]) if "." in axis else axis
    if value in ("none", "true", "false"):
        return f"{ {'none': 'no', 'true': 'with', 'false': 'without'}[str(value)] } {of}"
    plain = isinstance(value, str) and value not in UNTELLING and not value.startswith("[")
    return spelled(value) if plain else f"{of} = {spelled(value)}"


def counted(number: int, noun: str) -> str:
    """Return a number of things: 1 image, 2,000 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def joined(axes: Iterable[tuple[str, Value]]) -> str:
    """Return several axes with their values."""
    return ", ".join(named(*each) for each in axes)


def spelled(value: Value) -> str:
    """Return a value as a person writes it: no plug-in's digest, lists as 64-32-16."""
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = CUT.sub("…", PLUGIN.sub("", value)).replace("()", "")
    while (found := LIST.sub(lambda each: re.sub(r",\s*", "-", each[1]), text)) != text:
        text = found
    return text


def case(name: str, spec: TrialSpec) -> str:
    """Return a case's name, in which a backbone or a depth that the trial has not is replaced by what it has.

    A preset may give a case called `vit-conv-20` other maps and another decoder: `srm/stats conv-4`.
    """
    maps, parts = recipe.maps(spec), name.split("-")
    own = set(re.split(r"[^a-z0-9]+", maps.casefold())) if maps else {"pixels"}
    said = re.sub(r"\bconv-\d+", recipe.decoder(spec), name) if spec.decoder.name == "conv" else name
    if BACKBONES.intersection(parts) <= own:
        return said
    rest = "-".join(part for part in said.split("-") if part not in BACKBONES)
    return " ".join(filter(None, [maps or "pixels", rest]))
