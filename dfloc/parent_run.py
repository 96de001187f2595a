"""What a sweep's parent run says of its report: the answer's numbers as metrics, its sentences before its note."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from upath import UPath

from dfloc.mlflow_names import key
from dfloc.tracking_store import Store

FILE = "answer.json"
NOTE = "mlflow.note.content"
PREFIX = "answer/"


def sentences(report: UPath) -> list[str]:
    """Return what a report answers, sentence by sentence; nothing where an older version wrote it."""
    path = report / FILE
    return [one["text"] for one in json.loads(path.read_text())["sentences"]] if path.exists() else []


def answer(store: Store, run_id: str, report: UPath) -> None:
    """Bring a parent run up to what a report answers; a number that it has no more becomes NaN, as none can be deleted.

    Raises:
        StoreError: the store does not take it.
    """
    path = report / FILE
    if not path.exists():
        return
    found: Mapping[str, Any] = json.loads(path.read_text())
    data = store.run(run_id).data
    numbers = {f"{PREFIX}{name}": float(value) for name, value in found["numbers"].items()}
    kept = {key(name) for name in numbers}
    gone = {name: math.nan for name in data.metrics if name.startswith(PREFIX) and name not in kept}
    now = round(time.time() * 1000)
    new = [(name, value, now, 0) for name, value in (numbers | gone).items() if not _has(data.metrics, name, value)]
    store.log(run_id, new, {}, {})
    note = "\n\n".join([*sentences(report), data.tags.get(NOTE, "")])
    store.tag(run_id, {NOTE: note})


def _has(metrics: Mapping[str, float], name: str, value: float) -> bool:
    there = metrics.get(key(name))
    return there is not None and (there == value or (math.isnan(there) and math.isnan(value)))
