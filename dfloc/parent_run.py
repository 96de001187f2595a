"""What a sweep's parent run says of its report: the answer's numbers as metrics, its sentences before its note."""

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from upath import UPath

from dfloc.metrics import protocols
from dfloc.mlflow_names import key
from dfloc.record import SweepRecord
from dfloc.tracking_store import Store

logger = logging.getLogger(__name__)

FILE = "answer.json"
NOTE = "mlflow.note.content"
PREFIX = "answer/"


def sentences(report: UPath) -> list[str]:
    """Return what a report answers, sentence by sentence; nothing where an older version wrote it."""
    return list((_read(report) or {"sentences": []})["sentences"])


def answer(store: Store, run_id: str, report: UPath) -> None:
    """Bring a parent run up to what a report answers; a number that it has no more becomes NaN, as none can be deleted.

    Raises:
        StoreError: the store does not take it.
    """
    found = _read(report)
    if found is None:
        return
    data = store.run(run_id).data
    numbers = {f"{PREFIX}{name}": value for name, value in found["numbers"].items()}
    kept = {key(name) for name in numbers}
    gone = {name: math.nan for name in data.metrics if name.startswith(PREFIX) and name not in kept}
    now = round(time.time() * 1000)
    new = [(name, value, now, 0) for name, value in (numbers | gone).items() if not _has(data.metrics, name, value)]
    store.log(run_id, new, {}, {})
    note = "\n\n".join([*found["sentences"], data.tags.get(NOTE, "")])
    store.tag(run_id, {NOTE: note})


def note(record: SweepRecord, whole: str, parts: Iterable[str]) -> str:
    """Return a sweep's description (Markdown): how to find its trials.

    Args:
        record: the sweep's.
        whole: MLflow's search for all of them.
        parts: those for the trials of each stage.
    """
    first = protocols.find(record.protocol).first
    paragraphs = [
        f"**{record.title}**",
        "All trials of this sweep, also those that another one recorded first; copy into the search field:",
        f"    {whole}",
        "or those of a stage:",
        *(f"    {part}" for part in parts),
        f"{first.label} against exposure: open the sweep's row by its +, tick the trials, Compare, Scatter Plot, "
        f"X `exposure`, Y `test/held_out/{first.key}`.",
        *record.notes,
    ]
    return "\n\n".join(paragraphs)


def _read(report: UPath) -> dict[str, Any] | None:
    """Return the sentences and numbers of a report's file; None where there is none, or another wrote over it."""
    try:
        found = json.loads((report / FILE).read_text())
        said = [str(one["text"]) for one in found["sentences"]]
        return {"sentences": said, "numbers": {str(name): float(value) for name, value in found["numbers"].items()}}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("%s says no answer (%s); dfloc report makes it again", report / FILE, type(error).__name__)
        return None


def _has(metrics: Mapping[str, float], name: str, value: float) -> bool:
    there = metrics.get(key(name))
    return there is not None and (there == value or (math.isnan(there) and math.isnan(value)))
