"""The JSON schema of a sweep file, made of the models that check one: for editors, and for the page of its keys."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from dfloc.augmentation import AugmentOp
from dfloc.config import LossSpec, OptimizerSpec, ScheduleSpec
from dfloc.sweep.search_space import AxisAsk, PrunerAsk, SamplerAsk, SearchAsk
from dfloc.sweep.sweep_keys import (
    AugmentAsk,
    CaseAsk,
    CellAsk,
    CellEvaluateAsk,
    ComposeAsk,
    DecoderAsk,
    EvaluateAsk,
    ExplainAsk,
    FromAsk,
    StageAsk,
    StudyAsk,
    TrialAsk,
)
from dfloc.sweep.train_keys import TrainAsk

# What stands below a model's keys that are checked only when every axis has its value.
PARTS: Mapping[str, type[BaseModel]] = {
    **{"trial": TrialAsk, "train": TrainAsk, "from": FromAsk, "evaluate": CellEvaluateAsk}
}
MODELS = (
    *(StudyAsk, StageAsk, CaseAsk, ComposeAsk, TrainAsk, TrialAsk, DecoderAsk, LossSpec, OptimizerSpec, ScheduleSpec),
    *(AugmentAsk, AugmentOp, FromAsk, EvaluateAsk, CellEvaluateAsk, ExplainAsk),
    *(SearchAsk, AxisAsk, SamplerAsk, PrunerAsk),
)
FREE = {"type": ["string", "null"]}  # the name of an axis, `${...}`, a bare name, or a key taken away
# An axis may be a list too, and stand below the path of its name.
LOOSE = {"space": {"type": "object", "additionalProperties": {"type": ["object", "array", "null"]}}}
INTERNAL = frozenset({"plugin"})  # keys of a spec that dfloc fills in
COMPOSED = ("DecoderAsk", "rule")  # of composites alone, which have a key of their own


def schema() -> dict[str, Any]:
    """Return the JSON schema, draft 2020-12.

    Any value may be the name of an axis, `${...}`, or null, which takes a key away; a preset is a part of a sweep file.
    """
    definitions: dict[str, Any] = {}
    for model in (StudyAsk, CellAsk):
        own = model.model_json_schema(by_alias=True)
        definitions |= own.pop("$defs") | {model.__name__: own}
    described = {model.__name__: meanings(model) for model in MODELS}
    made = {name: _part(name, found, described.get(name, {})) for name, found in definitions.items()}
    root = made["StudyAsk"]
    presets = {"type": "object", "additionalProperties": {"anyOf": [{"$ref": "#/$defs/StudyAsk"}, {"type": "null"}]}}
    whole = root | {"properties": root["properties"] | {"presets": presets}, "required": ["stages"]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A sweep file of dfloc"}
    return head | {key: whole[key] for key in whole if key != "title"} | {"$defs": made}


def text() -> str:
    """Return the JSON schema as a file has it."""
    return json.dumps(schema(), indent=2)


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what each key of a model means, from the docstring of the class where it is written down."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        doc = inspect.getdoc(base) if "__doc__" in vars(base) else None
        _, _, attributes = (doc or "").partition("Attributes:\n")
        found |= dict(_entries(attributes))
    return {model.model_fields[name].alias or name: told for name, told in found.items() if name in model.model_fields}


def _entries(attributes: str) -> Iterator[tuple[str, str]]:
    for entry in re.split(r"\n(?=    \w)", attributes.rstrip()):
        name, colon, meaning = entry.strip().partition(": ")
        if colon:
            yield name, re.sub(r"\s+", " ", meaning)


def _part(name: str, found: Mapping[str, Any], described: Mapping[str, str]) -> dict[str, Any]:
    """Return a definition as any part of a sweep file may have it: no key must be there."""
    if "properties" not in found:
        return dict(found)
    properties = {}
    for key, body in found["properties"].items():
        if key in INTERNAL or (name, key) == COMPOSED:
            continue
        known = PARTS.get(key) if name in ("StudyAsk", "StageAsk", "CaseAsk") and "$ref" not in body else None
        loose = {"$ref": f"#/$defs/{known.__name__}"} if known else LOOSE.get(key) or _loose(body)
        told = {"description": described[key]} if key in described else {}
        properties[key] = {"anyOf": [loose, FREE]} | told
    more = found.get("additionalProperties", False)
    return {"type": "object", "additionalProperties": more and {"type": ["string", "null"]}, "properties": properties}


def _loose(body: Any) -> Any:
    """Return a type in which an item of a list or mapping may be free too."""
    if not isinstance(body, Mapping):
        return body
    kept = {key: value for key, value in body.items() if key not in ("title", "default", "minProperties")}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), Mapping):
            kept[key] = {"anyOf": [_loose(kept[key]), FREE]}
    if "prefixItems" in kept:
        kept["prefixItems"] = [{"anyOf": [_loose(item), FREE]} for item in kept["prefixItems"]]
    if "anyOf" in kept:
        kept["anyOf"] = [_loose(item) for item in kept["anyOf"]]
    return kept
