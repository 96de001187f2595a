"""What a trial lacks to be compared with a published number."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dfloc import registry
from dfloc.config import DecoderSpec, TrialSpec
from dfloc.data import dolos
from dfloc.measures import WATCHED
from dfloc.models.decoders import OUTPUT_SIZE
from dfloc.report import recipe, setups
from dfloc.report.published import PublishedNumber

TIMM = "timm "
FROZEN = {"CLIP frozen, linear": ("clip-", "projected"), "SAM frozen, linear": ("sam-vit-", "pooled")}
"""Linear classifiers of images, as the published tables name them: how the backbone begins that they read, its map."""
EACH = re.compile(r"one model per domain, (\d+) each\b")
CALLED = {"facebook/sam2.1-hiera-small": "sam2.1_hiera_small", "ffd": "FFD xcp_reg"}
"""Our word for weights -> the documents'."""
PLAIN = {"targets": "own", "prior": None, "standardize": False, "BatchNorm": "train"}
"""What no published model does otherwise."""
CLIP_RECIPE = {
    "optimizer": "adamw 0.001",
    "schedule": "plateau",
    "selection": WATCHED,
    "init": "declip",
    "epoch_steps": None,
}
"""How every published localizer on CLIP was trained: by DeCLIP's trainer, which the thesis kept."""
RANDOM = "random weights: our numbers mean nothing beside published ones"
DRIFTED = "RN50 alone is not comparable: the published one's BatchNorm moved while it was called frozen"


@dataclass(frozen=True)
class Setting:
    """What `requires` can ask of one of our numbers.

    Attributes:
        random: whether a trial of the study has random weights.
        tested: domains that the trial is tested on, and the number of images of each.
        protocol: what scored it.
        spec: the trial.
        words: digest of weights -> the word by which they were asked for.
        base: the root ancestor's spec; where `n` is 0, the trial itself. None: no parent.
        n: images of the held-out domain; None where the study has no such axis.
        chained: the trial starts from another fine-tuned one, not from the base (mode `continue`).
    """

    random: bool
    tested: Mapping[str, int]
    protocol: str
    spec: TrialSpec
    words: Mapping[str, str]
    base: TrialSpec | None = None
    n: int | None = None
    chained: bool = False


def gaps(cell: PublishedNumber, protocol: str, domain: str, ours: Setting) -> list[str]:
    """Return what our number lacks to be subtracted from a published one; empty where it lacks nothing.

    Args:
        cell: the published number.
        protocol: the published table's protocol.
        domain: the test domain of the cell.
        ours: where our number comes from.
    """
    found = [RANDOM] if ours.random else []
    if protocol != ours.protocol:
        found.append(f"protocol {protocol}, ours {ours.protocol}")
    for key, wanted in cell.requires.items():
        check = _CHECKS.get(key)
        gap = check(wanted, ours, domain) if check else f"{key} {_words(wanted)}, which a report cannot check"
        if gap:
            found.append(gap)
    if {"decoder", "model"} & cell.requires.keys():
        found += _unstated(cell, ours.spec)
        if "base" not in cell.requires and ours.spec.init:
            found.append("starts from nothing, ours from a trained model")
        elif "base" in cell.requires and ours.base and ours.n != 0:
            found += [f"base: {gap}" for gap in _unstated(cell, ours.base)]
            found += [_differ("starts from the epoch", "best", ours.spec.start.checkpoint)] if ours.spec.start else []
    return [gap for gap in found if gap]


def fits(requires: Mapping[str, Any], spec: TrialSpec) -> bool:
    """Return whether a spec is of the model that a published number is of: its maps and decoder, or its name.

    A model of timm is another one where its weights are drawn at random.
    """
    if "model" in requires:
        words, scratch = str(requires["model"]), requires.get("weights") == "random"
        alike = not words.startswith(TIMM) or scratch == (spec.decoder.weights is None)
        return alike and is_model(words, spec)
    if "maps" not in requires or "decoder" not in requires:
        return False
    maps = [each.map for each in spec.maps]
    return maps == list(requires["maps"]) and _called(spec) == requires["decoder"]


def is_via(requires: Mapping[str, Any], spec: TrialSpec) -> bool:
    """Return whether images are resized on their way into the backbone as a published number's were."""
    via = requires.get("input", [None])[0]
    return via is None or spec.maps[0].via == via


def is_model(words: str, spec: TrialSpec) -> bool:
    """Return whether a spec is of a model as the published tables name it: Patches, a segmenter, a classifier."""
    decoder = spec.decoder
    if setups.method(words):
        return setups.is_method(words, spec)
    if words in FROZEN:
        backbone, read = FROZEN[words]
        maps = [each.name for each in spec.maps]
        return (
            decoder.name == "linear" and [each.map for each in maps] == [read] and maps[0].backbone.startswith(backbone)
        )
    if words.startswith(TIMM):
        return (decoder.name, decoder.model) == ("timm", words.removeprefix(TIMM))
    best = (decoder.name, decoder.architecture, decoder.encoder, spec.loss.name)
    return words.startswith("smp Unet++, ResNet-50, Jaccard") and best == ("smp", "unetplusplus", "resnet50", "jaccard")


def _called(spec: TrialSpec) -> str:
    """Return what the documents call a decoder, and what of ours is not so: conv-12 of widths 8-8."""
    found, parts = spec.decoder, [recipe.decoder(spec)]
    if found.name == "conv":
        head, tail = spec.maps[0].name if spec.maps else ("", "")
        plans = registry.BACKBONES[head].channels if head in registry.BACKBONES else {}
        if found.channels != plans.get(tail, DecoderSpec.model_fields["channels"].default):
            parts.append(f"of widths {'-'.join(map(str, found.channels))}")
        parts += [f"from a grid of {found.grid}"] if found.grid else []
        parts += [f"to {found.out_size}"] if found.out_size != OUTPUT_SIZE else []
    return " ".join(parts)


def _unstated(cell: PublishedNumber, spec: TrialSpec) -> list[str]:
    """Return what of ours no published model has, where its table does not speak of it: another loss, augmentation."""
    model = str(cell.requires.get("model", ""))
    if setups.method(model):
        return [gap for gap in _trained(cell, spec) if gap]
    wanted = "ce" if model in FROZEN or model.startswith(TIMM) else "bce"
    found = [] if model.startswith("smp") else [_differ("loss", wanted, recipe.loss(spec.loss))]
    found += [] if "augment" in cell.requires else [_differ("augmentation", "none", recipe.augment(spec.augment))]
    return [gap for gap in [*found, *_trained(cell, spec)] if gap]


def _trained(cell: PublishedNumber, spec: TrialSpec) -> list[str]:
    """Return where a trial was trained otherwise than the published model, as far as its document or code says how."""
    maps, wanted = cell.requires.get("maps", []), dict[str, Any](PLAIN)
    if maps and all(name.startswith("clip-") for name in maps):
        wanted |= {**CLIP_RECIPE, **_lists(spec), "batch": 32 if len(maps) > 1 else 64}
    elif setups.method(model := str(cell.requires.get("model", ""))):
        wanted |= {**_lists(spec), **setups.recipe_of(model, spec)}
    ours = {
        "targets": spec.taught,
        "prior": spec.decoder.prior,
        "standardize": spec.decoder.standardize,
        "BatchNorm": spec.decoder.batch_norm,
        "optimizer": recipe.optimizer(spec),
        "schedule": spec.schedule.called,
        "selection": spec.select,
        "init": spec.decoder.init,
        "epoch_steps": spec.epoch_steps,
        "batch": spec.batch,
        "validated on": spec.valid.counts,
        "pairing": spec.train.asked.get("pairing", "stems"),
        "drawn from the first": spec.train.asked.get("within"),
        **setups.found_in(spec),
    }
    return [_differ(field, value, ours[field]) for field, value in wanted.items()]


def _lists(spec: TrialSpec) -> dict[str, Any]:
    """Return how the published lists belong together: thirds of 3,000 + 300, whole sets with a tenth of their number.

    The same photographs are drawn of each domain; where the domains' shares differ, others, of each domain's third.
    """
    counts = spec.train.counts
    shares = len(set(counts.values())) > 1
    return {
        "validated on": {domain: max(300, count // 10) for domain, count in counts.items()},
        "pairing": "independent" if shares else "stems",
        "drawn from the first": 3000 if shares else None,
    }


def _data(_: Any, ours: Setting, __: str) -> str:
    sets = {domain: dolos.COUNTS.get(domain, {}).get("test") for domain in ours.tested}
    less = [domain for domain, count in sets.items() if count and not count.matches(ours.tested[domain])]
    return f"whole test sets, ours has {ours.tested[less[0]]:,} images of {less[0]}" if less else ""


def _test(wanted: Any, ours: Setting, _: str) -> str:
    tested = list(ours.tested)
    if isinstance(wanted, Mapping):  # each number is of one domain, whatever else is tested
        wanted = [wanted["localization"]]
        return "" if {*wanted} <= {*tested} else f"tested on {_words(wanted)}, ours on {_words(tested)}"
    return "" if set(wanted) == set(tested) else f"tested on {_words(wanted)}, ours on {_words(tested)}"


def _valid(wanted: Any, ours: Setting, _: str) -> str:
    return _differ("validated on", wanted, ours.spec.valid.counts)


def _weights(wanted: Any, ours: Setting, _: str) -> str:
    own = ours.spec.decoder.weights
    digests = [*(each.weights for each in ours.spec.maps), *([own] if own and wanted != "random" else [])]
    words = {ours.words.get(digest, digest) for digest in digests} - {"none"}
    if wanted == "random" and not words:  # nothing is pretrained: all weights are the trial's own
        return "pretrained weights" if ours.spec.decoder.weights else ""
    if not words:
        return f"weights {_words(wanted)}, ours random"
    asked = {wanted} if isinstance(wanted, str) else set(wanted)
    others = {CALLED.get(word, word) for word in words} - asked
    return f"weights {_words(wanted)}, ours {_words(sorted(others))}" if others else ""


def _maps(wanted: Any, ours: Setting, _: str) -> str:
    if all(name.startswith("clip-rn50/") for name in wanted):
        return DRIFTED
    return _differ("maps", list(wanted), [each.map for each in ours.spec.maps])


def _decoder(wanted: Any, ours: Setting, _: str) -> str:
    return _differ("decoder", wanted, _called(ours.spec))


def _input(wanted: Any, ours: Setting, _: str) -> str:
    found = [" then ".join(str(side) for side in wanted), *dict.fromkeys(map(recipe.inputs, ours.spec.maps))]
    return "" if len(set(found)) == 1 else f"input {found[0]}, ours {_words(found[1:])}"


def _model(wanted: Any, ours: Setting, _: str) -> str:
    if not is_model(str(wanted), ours.spec):
        return f"model {wanted}, ours {recipe.decoder(ours.spec)}"
    if setups.method(str(wanted)):
        return _differ("epochs of so many iterations:", setups.STEPS, ours.spec.epoch_steps or "all images")
    return ""


def _lr(wanted: Any, ours: Setting, _: str) -> str:
    return _differ("lr", wanted, ours.spec.optimizer.lr)


def _augment(wanted: Any, ours: Setting, _: str) -> str:
    ops = ours.spec.augment.ops if ours.spec.augment else ()
    found = " + ".join(
        f"{op.name} p {op.probability:g}" + (f" sigma U[{op.sigma[0]:g}, {op.sigma[1]:g}]" if op.sigma else "")
        for op in ops
    )
    return _differ("augmentation", wanted, found or "none")


def _epochs(wanted: Any, ours: Setting, _: str) -> str:
    return _differ("epochs", wanted, 0 if ours.n == 0 else ours.spec.epochs)


def _train(wanted: Any, ours: Setting, domain: str) -> str:
    counts = ours.spec.train.counts
    if each := EACH.match(str(wanted)):
        return _differ("trained on images of one domain:", [int(each[1])], list(counts.values()))
    if not isinstance(wanted, Mapping):
        return f"trained on {_words(wanted)}, which a report cannot check"
    own = {"own": domain, "own column": next(iter(counts), "")}
    asked = {
        own.get(name, name): ours.n if count == "n" and ours.n is not None else count for name, count in wanted.items()
    }
    return _differ("trained on", asked, {} if ours.n == 0 else counts)


def _base(wanted: Any, ours: Setting, _: str) -> str:
    if ours.base is None:
        return "a base, ours starts from nothing"
    if unknown := set(wanted) - {"train", "epochs"}:
        return f"base with {_words(sorted(unknown))}, which a report cannot check"
    return _differ("base trained on", wanted["train"], ours.base.train.counts) or _differ(
        "base epochs", wanted["epochs"], ours.base.epochs
    )


def _mode(wanted: Any, ours: Setting, _: str) -> str:
    return _differ("mode", wanted, "continue" if ours.chained else "restart")


def _not_stated(wanted: Any, _: Setting, __: str) -> str:
    return f"the source does not state {_words(wanted)}"


_CHECKS: Mapping[str, Callable[[Any, Setting, str], str]] = {
    "data": _data,
    "test": _test,
    "valid": _valid,
    "weights": _weights,
    "maps": _maps,
    "decoder": _decoder,
    "input": _input,
    "model": _model,
    "lr": _lr,
    "augment": _augment,
    "epochs": _epochs,
    "train": _train,
    "base": _base,
    "mode": _mode,
    "not_stated": _not_stated,
}


def _differ(what: str, wanted: Any, got: Any) -> str:
    return "" if wanted == got else f"{what} {_words(wanted)}, ours {_words(got)}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{count} {name}" for name, count in sorted(value.items(), key=str)) or "nothing"
    if isinstance(value, list | tuple):
        return " + ".join(str(item) for item in value) or "nothing"
    return "none" if value is None else str(value)
