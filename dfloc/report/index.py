"""One page over the reports of all sweeps of a workspace: what each asks, how far it is, and its headline."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from upath import UPath

from dfloc import storage
from dfloc.errors import DflocError
from dfloc.record import SweepRecord
from dfloc.report import overview, render, search
from dfloc.report.build import write
from dfloc.report.controls import blocks, main
from dfloc.report.find import records
from dfloc.report.groups import Study, by_protocol
from dfloc.report.marks import NOT_ABOVE
from dfloc.report.models import Part, foreign, known, models, parts, unknown
from dfloc.report.ranking import chosen
from dfloc.report.results import Results
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

SYNTHETIC = "random weights: path only, numbers mean nothing"
BUILT_IN = "built-in data: the numbers say nothing about Dolos"


@dataclass(frozen=True)
class Entry:
    """One row of the page.

    Attributes:
        mark: what must be known of its numbers; empty where nothing.
        headlines: what it found, a sentence for each kind of training data.
    """

    record: SweepRecord
    state: str
    mark: str
    headlines: Sequence[str]


def build_all(workspace: Workspace, *, with_panel: bool = True) -> tuple[UPath, dict[str, str]]:
    """Build the report of every sweep that a workspace has a record of, and `reports/index.html`.

    Args:
        workspace: where the sweeps ran.
        with_panel: whether the pages show images.

    Returns:
        The page, and by its name why a sweep has no report: one that fails keeps no other from its own.
    """
    entries, failed = [], dict[str, str]()
    for record in sorted(records(workspace.root, failed), key=lambda record: record.sweep):
        try:
            study = Study(record, Results(workspace, record))
            write(workspace, study, with_panel=with_panel)
            state = overview.state_line(study)
            entries.append(replace(entry(by_protocol(workspace, study)[0]), record=study.record, state=state))
        except DflocError as error:
            failed[record.sweep] = str(error)
        except Exception as error:
            logger.debug("the report of %s failed", record.sweep, exc_info=True)
            failed[record.sweep] = f"{type(error).__name__}: {error}; dfloc report {record.sweep} --debug says where"
    page = workspace.report("index.html")
    storage.put(page, render.html("index", entries=entries, failed=failed).encode())
    return page, failed


def entry(study: Study) -> Entry:
    """Return what the page says of a study."""
    found = [_trained(study, block) for block in parts(study, models(study)).values()]
    lines = [line for line in [search.headline(study), *found, _curve(study)] if line]
    mark = SYNTHETIC if study.path_only else BUILT_IN if study.built_in else ""
    return Entry(study.record, overview.state_line(study), mark, lines)


def _trained(study: Study, block: Sequence[Part]) -> str:
    """Return the model that validation chooses, and its means in and out of domain."""
    best = chosen(study, block)
    shown = best or next((part for part in block if part.valid is not None), None)
    if shown is None:
        return ""
    means = {words: shown.mean(study, which) for words, which in (("in domain", known), ("out of domain", unknown))}
    said = ", ".join(f"{found.value:.3f} {words}" for words, found in means.items() if found)
    if foreign(study, shown.columns):  # one mean would mix the sources
        each = {column.name: column.group.score(study.tested) for column in shown.columns}
        said = ", ".join(f"{score.value:.3f} trained on {name}" for name, score in each.items() if score)
    of = f" (best of {len(block)} by validation)" if best and len(block) > 1 else ""
    mark = "" if best else f", {NOT_ABOVE}"
    return f"Trained on {shown.kind}: {shown.model.name}{of}: {study.first.label} {said or 'not there yet'}{mark}."


def _curve(study: Study) -> str:
    """Return the mean IoU on the held-out domains at the smallest and the largest n of a fine-tuning study."""
    curves = [(held_out, curve) for facet, held_out, curve in blocks(study) if facet == main(study).facets[0]]
    shared = sorted(set.intersection(*(set(curve) for _, curve in curves))) if curves else []
    points = [(n, study.mean_of([(curve[n], [held_out]) for held_out, curve in curves])) for n in shared]
    known_points = [f"{found.value:.3f} at n = {n:,}" for n, found in points if found]
    ends = list(dict.fromkeys((known_points[0], known_points[-1]))) if known_points else []
    return f"Fine-tuned: {study.first.label} on the held-out domain {', '.join(ends)}." if ends else ""
