"""The page of a sweep file's keys, made of the models that check one: `python -m tests.sweepfile` writes it anew."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dfloc.sweep.json_schema import COMPOSED, INTERNAL, MODELS, PARTS, meanings

PAGE = Path(__file__).parent.parent / "docs" / "SWEEPFILE.md"

# Where a model's keys stand, and what it says.
SECTIONS = {
    "StudyAsk": ("the file", "The study. `presets:` holds parts of a file by name (`--preset`), merged over the rest."),
    "StageAsk": ("stages.STAGE", "A stage. Its name is a word: letters, digits and `_ . + -`, at most 100."),
    "CaseAsk": ("stages.STAGE.cases.CASE", "A case: a row of a table, merged over its stage. Named as a stage is."),
    "ComposeAsk": (
        "stages.STAGE.compose.NAME",
        "A composite: `{route: detector, fake: generalist}`, `{route: classifier, ldm: special, rest: generalist}`, or "
        "`{rule: mean, parts: [generalist], over: seed}`. Parts pair by seed and sampling seed; a class has the trial "
        "whose axis `domain` is of its family. Nothing is trained: rows of parts are joined, or their maps averaged.",
    ),
    "TrainAsk": ("train", "Which samples a cell trains and validates on."),
    "TrialAsk": ("trial", "How a cell trains; merged: the file's, its stage's, its case's."),
    "DecoderAsk": ("trial.decoder", "What is trained; a bare name is `{name: ...}`, here and below."),
    "LossSpec": ("trial.loss", "What is minimised."),
    "OptimizerSpec": ("trial.optimizer", "How weights are changed."),
    "ScheduleSpec": ("trial.schedule", "How the learning rate changes."),
    "AugmentAsk": ("trial.augment", "How training images are changed."),
    "AugmentOp": ("trial.augment.ops", "One random change."),
    "LabelsAsk": ("train.labels", "Images that are trained on by their labels alone, beside those with masks."),
    "FromAsk": ("from", "Whose weights a stage starts from; a bare name is a stage."),
    "EvaluateAsk": ("evaluate", "What every trial is scored on."),
    "CellEvaluateAsk": ("stages.STAGE.evaluate", "What of it a stage or a case may say otherwise."),
    "ExplainAsk": ("evaluate.explain", "Maps of a trial that answers once an image; a bare name is `{name: ...}`."),
    "SearchAsk": ("search", "A stage whose trials are drawn."),
    "AxisAsk": ("search.space.AXIS", "What is drawn for an axis; a list is its choices."),
    "SamplerAsk": ("search.sampler", "How points are drawn."),
    "PrunerAsk": ("search.pruner", "Which trials are stopped early."),
    "Check": ("checks", "A published number that the study's own should meet; one of `published` and `value`."),
}

# One value of each key; where several models have a key of one name, by the place.
EXAMPLES = {
    **{"name": "conv", "the file name": "exposure", "title": "How many samples?", "tables": "[s000.budgets]"},
    **{"domains": "[celebahq/ldm, celebahq/lama]", "train domains": "all_but_held_out", "device": "cuda", "seeds": "3"},
    **{
        "draws": "2",
        "grid": "{n: [250, 500]}",
        "trial.decoder grid": "64",
        "trial": "{epochs: 30}",
        "stages": "{base: {}}",
    },
    **{"evaluate": "{explain: none}", "the file evaluate": "{domains: [celebahq/ldm], protocol: dfloc-1}"},
    **{"search": "{stage: search, trials: 64, space: {}}"},
    **{"from": "base", "train": "{domains: all, count: n, valid: 300}", "cases": "{replay: {train: {replay: equal}}}"},
    **{
        "count": "{first: 1000, rest: 500}",
        "evaluate count": "12",
        "reals": "[real]",
        "explain": "grad-cam",
        "evaluate.explain name": "grad-cam",
        "layer": "block11",
        "valid": "300",
        "valid_domains": "[celebahq/ldm]",
    },
    **{
        "labels": "{domains: [held_out, real], count: 500}",
        "train.labels count": "500",
        "train.labels targets": "label",
    },
    **{"pairing": "disjoint", "within": "3000", "replay": "equal", "mode": "cumulative", "maps": "[clip-rn50/layer3]"},
    **{
        "weights": "{clip-rn50: openai}",
        "trial.decoder weights": "imagenet",
        "input": "[224, 1024]",
        "decoder": "conv",
    },
    **{
        "loss": "{name: focal, gamma: 3}",
        "optimizer": "{name: adamw, lr: 1e-3}",
        "schedule": "plateau",
        "watch": "loss",
        "delta": "1e-3",
        "epochs": "30",
    },
    **{
        "epoch_steps": "500",
        "batch": "32",
        "task": "detect",
        "select": "last",
        "targets": "shuffled",
        "augment": "blur",
        "seed": "0",
    },
    **{
        "precision": "fp32",
        "depth": "12",
        "channels": "[16, 8, 8]",
        "out_size": "64",
        "init": "declip",
        "prior": "0.18",
    },
    **{"standardize": "true", "batch_norm": "frozen", "mask": "causal", "trained": "declip", "architecture": "fpn"},
    **{"pool": "mean+max", "model": "xception41", "trial.decoder kernel": "1", "widths": "[32, 32]"},
    **{"weight_map": "0.5"},
    **{
        "compose": "{two-step: {route: detector, fake: generalist}}",
        "rule": "mean",
        "route": "detector",
        "rest": "specialists/vit-rn50",
        "parts": "[generalist]",
        "over": "seed",
    },
    **{"encoder": "resnet50", "block": "2", "reduction": "image", "smooth": "1.0", "alpha": "0.75", "gamma": "2.0"},
    **{"terms": "[{name: bce}, {name: dice, weight: 0.5}]", "weight": "0.5", "lr": "1e-3", "weight_decay": "0.01"},
    **{"trial.loss name": "focal", "trial.optimizer name": "adamw", "trial.schedule name": "plateau", "views": "1"},
    **{"trial.augment name": "blur", "trial.augment.ops name": "jpeg", "ops": "[{name: jpeg, quality: [50, 95]}]"},
    **{
        "probability": "0.5",
        "sigma": "[0.1, 3]",
        "kernel": "9",
        "quality": "[50, 95]",
        "strength": "0.2",
        "at": "input",
    },
    **{"stage": "base", "from trial": "a1b2c3d4", "checkpoint": "last", "protocol": "declip-2025", "trials": "64"},
    **{
        "space": "{lr: {low: 1e-5, high: 1e-2, log: true}}",
        "objective": "valid",
        "sampler": "{name: tpe, startup: 16}",
    },
    **{"pruner": "{name: asha, min_epochs: 2}", "choices": "[bce, dice]", "low": "1e-5", "high": "1e-2", "log": "true"},
    **{"whole": "true", "of": "backbone", "search.sampler name": "tpe", "startup": "16", "search.pruner name": "asha"},
    **{"min_epochs": "2", "factor": "3"},
    **{
        "checks": "[{name: fake, stage: baselines, domain: celebahq/ldm, value: 0.19, tolerance: 1e-4, because: a}]",
        "checks name": "all fake",
        "axes": "{decoder: all-fake}",
        "domain": "celebahq/ldm",
        "metric": "f1_fixed",
        "published": "[s000.cross_domain.vit_rn50, celebahq/ldm, train_all_4]",
        "value": "0.1891",
        "tolerance": "0.02",
        "because": "no training had a seed",
    },
}

HEAD = """# A sweep file

Every key of a sweep file: what it may be, what it is where it is left out, what it means, and one example. This page is
made of the models that check a file (`python -m tests.sweepfile`), and a test compares them.

- **Order of merging**: the file < its preset (`--preset`) < `--set KEY=VALUE`, then `${key}` of the file itself. `null`
  takes a key away.
- **Axes**: a key of a `grid` is an axis, and its name stands for its value anywhere in the stage: `count: n`. A dotted
  name is the field that it changes: `grid: {trial.optimizer.lr: [1e-3, 1e-4]}`. At most 10,000 trials of a stage and
  parent.
- **Numbers** are plain digits: `010`, `1:30`, `on` are texts, and refused where a number is wanted. A key stands once.
- **Only the file counts**: no `${oc.env:...}`, no function, no tag (`!!...`), no second document; at most 1 MB and
  20,000 values.
- `dfloc sweep NAME --print` shows the merged file; saved, it gives the same plan with the same `--preset`, `--data` and
  `--limit`.
- `dfloc sweep --schema > sweep.schema.json` is for an editor, with `# yaml-language-server: $schema=sweep.schema.json`
  as the first line of a file.
- A mistake is one sentence with the file's line or the `--set` that is at fault; an unknown key says what is near.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join("".join(_section(model)) for model in MODELS)


def keys(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Yield the keys that a user may write, and the field of each."""
    for name, field in model.model_fields.items():
        if name not in INTERNAL and (model.__name__, name) != COMPOSED:
            yield field.alias or name, field


def example(model: type[BaseModel], key: str) -> str:
    """Return one value of a key."""
    return EXAMPLES.get(f"{SECTIONS[model.__name__][0]} {key}", EXAMPLES.get(key, ""))


def _section(model: type[BaseModel]) -> Iterator[str]:
    place, says = SECTIONS[model.__name__]
    found = meanings(model)
    yield f"\n## {place}\n\n{says}\n\n| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n"
    made = model.model_json_schema(by_alias=True)
    types = made.get("properties") or made["$defs"][model.__name__]["properties"]
    for key, field in keys(model):
        part = model.__name__ in ("StudyAsk", "StageAsk", "CaseAsk") and "$ref" not in types[key]
        known = PARTS.get(key) if part else None
        kind = f"as `{SECTIONS[known.__name__][0]}`" if known else shown(types[key])
        default = "needed" if field.is_required() else _default(field.get_default(call_default_factory=True))
        cells = (f"`{key}`", kind, default, found.get(key, ""), f"`{key}: {example(model, key)}`")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"`{value.model_dump()}`".replace("'", "")
    return "" if value is None or value in ((), {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def shown(kind: Mapping[str, Any]) -> str:
    """Return a JSON schema's type in words."""
    if "$ref" in kind:
        return f"as `{SECTIONS[kind['$ref'].rpartition('/')[2]][0]}`"
    if "anyOf" in kind:
        return " or ".join(dict.fromkeys(shown(part) for part in kind["anyOf"] if part.get("type") != "null"))
    if "enum" in kind or "const" in kind:
        return ", ".join(f"`{word}`" for word in kind.get("enum", [kind.get("const")]))
    if kind.get("type") == "array":
        return f"list of {shown(kind['items'])}" if "items" in kind else f"{len(kind['prefixItems'])} numbers"
    if kind.get("type") == "object":
        below = kind.get("additionalProperties")
        return f"mapping of {shown(below)}" if isinstance(below, Mapping) else "mapping"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits |= {"multipleOf": "a multiple of"}
    said = [f"{sign} {kind[name]:,.12g}" for name, sign in limits.items() if name in kind]
    return " ".join([words.get(kind.get("type", ""), "any"), *said])


if __name__ == "__main__":
    PAGE.write_text(page())
