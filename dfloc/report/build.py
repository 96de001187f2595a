"""A sweep's report: built from its record, the ledger and the rows alone."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import unquote

from upath import UPath

from dfloc import storage
from dfloc.metrics.metric import IMAGE_AP, IMAGE_RIGHT
from dfloc.record import SweepRecord
from dfloc.report import (
    areas,
    budgets,
    captions,
    checks,
    comparison,
    conclusions,
    confusion,
    embedding,
    evaluations,
    explained,
    exposure,
    figures,
    heatmaps,
    histograms,
    models,
    opening,
    overlap,
    overview,
    panel,
    pipelines,
    place,
    published,
    ranking,
    reading,
    render,
    routing,
    search,
    supervision,
    trends,
    worth,
)
from dfloc.report.answer import answer
from dfloc.report.controls import REPLAY, controls_of, main, rooted
from dfloc.report.embedding import Spaces
from dfloc.report.groups import Study
from dfloc.report.models import Model
from dfloc.report.page import Report, Section
from dfloc.report.place import Pair
from dfloc.report.results import Results
from dfloc.report.table import Table, starred
from dfloc.storage import Workspace

EXPOSED = "A base model is trained on all domains but one, then fine-tuned on n images of that one."
PANEL = "A few test images"
CROSSED = "Each model is trained on a domain, on all but one, or on all of them, and tested on each."
RANKED = "Models are ranked by validation, which is what a study could choose by; test numbers stand beside it."
WHETHER = "How well each training parts fakes from reals, beside balanced accuracy."
CONTROLLED = "What fine-tuning owes to its base, and what n old images among the new ones keep."


def build(workspace: Workspace, record: SweepRecord, *, shards: UPath | None = None, with_panel: bool = True) -> UPath:
    """Write `reports/<sweep>/`: index.html, report.md, evaluations.csv and one CSV for each table.

    Args:
        workspace: where the sweep ran.
        record: what was planned under it.
        shards: folder of the data, for the panel of images; None = that of the data's name in the workspace.
        with_panel: whether the page shows images, and feature spaces are measured that no earlier page kept.

    Returns:
        The folder.

    Raises:
        ConfigError: the record names a published table that there is not.
        WorkspaceError: a ledger file or rows are damaged.
    """
    return write(workspace, Study(record, Results(workspace, record)), shards=shards, with_panel=with_panel)


def write(workspace: Workspace, study: Study, *, shards: UPath | None = None, with_panel: bool = True) -> UPath:
    """Write the report of a study that was read, as `build`."""
    studies = evaluations.by_protocol(workspace, study)
    found = answer(studies[0])
    spaces = embedding.spaces(workspace, studies[0], shards, make=with_panel)
    report = opening.opened(_report(workspace, study, studies, spaces), found.sentences)
    if with_panel and (images := panel.gallery(workspace, studies[0], shards)):
        report, rest = opening.beside(report, images)
        if rest:
            report = report.before(("claims-study", "published", "behind"), Section("panel-study", PANEL, "", [rest]))
    if with_panel and (looks := explained.gallery(workspace, studies[0], shards)):
        report = report.within(explained.ID, looks)
    folder = workspace.report(study.record.sweep)
    before = _linked(folder)
    for table in report.tables:
        storage.put(folder / f"{table.id}.csv", table.csv().encode())
    storage.put(folder / "evaluations.csv", evaluations.csv(studies).encode())
    storage.put(folder / "answer.json", storage.json_bytes(found.content))
    storage.put(folder / "report.md", render.markdown("report", page=report).encode())
    storage.put(folder / "index.html", render.html("page", page=report).encode())
    for name in before - _linked(folder):  # of tables that the study has no more: they would pass for its numbers
        (folder / name).unlink(missing_ok=True)
    return folder


def _linked(folder: UPath) -> set[str]:
    """Return the CSV files that a page in a folder links to; none where there is no page."""
    page = folder / "index.html"
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    found = {unquote(name) for name in re.findall(r'<a href="?([\w.%+-]+\.csv)"?>CSV</a>', text)}
    return {name for name in found if "/" not in name and (folder / name).is_file()}


def read(workspace: Workspace, record: SweepRecord) -> Report:
    """Return the figures and tables of a sweep's report; nothing is written.

    Raises:
        ConfigError, WorkspaceError: as `build`.
    """
    study = Study(record, Results(workspace, record))
    studies = evaluations.by_protocol(workspace, study)
    return _report(workspace, study, studies, embedding.spaces(workspace, studies[0], make=False))


def _report(workspace: Workspace, whole: Study, studies: Sequence[Study], spaces: Spaces) -> Report:
    record, study = whole.record, studies[0]
    tables = published.choose(published.load(unpublished=True), record.tables)
    elsewhere = [table for table in tables if table.axes != published.PIPELINES or not pipelines.composed(whole)]
    sections, footer, compared = list[Section](), list[str](), False
    for number, one in enumerate(studies):
        protocol = one.record.protocol
        drawn, found = _sections(workspace, one, tables, Spaces() if number else spaces)
        sections += [section.marked(protocol, protocol) for section in drawn] if number else drawn
        footer += [*overview.footer(one), *place.unmatched(one, elsewhere, found)]
        compared |= bool(place.matched(found))
    sections = [*checks.sections(studies), *_starred(sections)]
    return Report(
        title=record.title,
        subtitle=f"Sweep {record.sweep}, data {record.data}. {overview.state_line(whole)}",
        reading=reading.lines(study, published=compared),
        warnings=[*overview.warnings(whole), *_unseen(whole, sections)],
        sections=sections,
        footer=[*dict.fromkeys(footer), *overview.built(whole)],
        command=opening.command(record),
    ).said_once()


def _unseen(study: Study, sections: Sequence[Section]) -> list[str]:
    """Return a sentence with the names of the finished trials that no table of numbers and no figure shows."""
    seen = {name for one in sections for block in one.blocks if isinstance(block, Table) for name in block.trials}
    rest = [
        result.trial.name for name, result in study.results.by_fingerprint.items() if name not in seen and result.done
    ]
    return [f"Finished, but in no figure and in no table but that of all trials: {'; '.join(rest)}."] if rest else []


def _sections(
    workspace: Workspace, study: Study, tables: Sequence[published.PublishedTable], spaces: Spaces
) -> tuple[list[Section], Sequence[Pair]]:
    """Return the sections of one protocol, and the numbers of published tables with what they have of ours."""
    every = place.pairs(study, tables)
    found = place.matched(every)
    sections = [
        *search.sections(study),
        *worth.sections(study),
        *supervision.sections(study),
        routing.section(study, tables),
        *_curves(workspace, study, found),
        *_crossed(study, models.models(study), found, spaces),
        *explained.sections(study),
        *conclusions.sections(study),
        *_behind(study, comparison.tables(study, found)),
    ]
    return [section for section in sections if section.blocks or section.id == conclusions.ID], every


def _starred(sections: Sequence[Section]) -> list[Section]:
    """Return the sections with a star at each difference of the page that luck does not explain."""
    tables = iter(starred([block for one in sections for block in one.blocks if isinstance(block, Table)]))
    return [
        replace(one, blocks=[next(tables) if isinstance(block, Table) else block for block in one.blocks])
        for one in sections
    ]


def _curves(workspace: Workspace, study: Study, found: Sequence[Pair]) -> Iterator[Section]:
    tuned, controlled = main(study).groups, controls_of(study)
    replayed = [group for one in controlled if one.kind == REPLAY for group in one.groups]
    yield Section(
        "exposure-study",
        "How many samples of a new domain?",
        " ".join([EXPOSED, *overlap.sentences(workspace, study, tuned)]),
        [figures.panels(study, found), figures.means(study), exposure.curves(study), exposure.selected(study)]
        if tuned
        else [],
    )
    yield Section(
        "controls-study",
        "Against starting anew, and with replay",
        " ".join([CONTROLLED, *(f"Replay: {words}" for words in overlap.sentences(workspace, study, replayed))]),
        [figures.controls(study), exposure.controls(study)] if tuned and controlled else [],
    )
    yield Section(
        "forgetting-study",
        "What is forgotten",
        "",
        [figures.forgetting(study), exposure.forgetting(study)] if rooted(study) else [],
    )
    mixed = [budgets.budgets(study)] if budgets.lines(study) else []
    mixed += [budgets.equal_total(study)] if budgets.counted(study) else []
    yield Section("budgets-study", "Many domains or many images?", "", mixed)
    last = [exposure.best_last(study)] if tuned else []
    yield Section("measures", "Last epoch, AP and F1", "", last)


def _images(study: Study, found: Sequence[Model], published: Sequence[Pair], spaces: Spaces) -> Iterator[Section]:
    """Yield what studies of images as a whole have alone: what each class is called, or scores and thresholds."""
    if study.protocol.reads == "map":
        return
    near = embedding.blocks(study, spaces)
    lacks = [] if near else spaces.notes
    if study.task == "attribute":
        figures = [confusion.confusion(study, found), confusion.recalls(study, found, published)]
        blocks = [*figures, confusion.classes(study, found), *near]
        yield Section("classes-study", "Who made it?", " ".join(lacks), blocks)
        return
    maps = [heatmaps.crossed(study, found, metric=metric) for metric in (IMAGE_AP, IMAGE_RIGHT)]
    numbers = (
        histograms.histograms(study, found),
        histograms.thresholds(study, found),
        histograms.measures(study, found),
    )
    yield Section("scores-study", "Reals and fakes", " ".join([WHETHER, *lacks]), [*maps, *numbers, *near])


def _crossed(study: Study, found: Sequence[Model], published: Sequence[Pair], spaces: Spaces) -> Iterator[Section]:
    """Yield train x test, the ranking of models, epochs and areas, each where the study has them."""
    if not found:
        return
    numbers = ranking.crossed(study, found), ranking.tested(study, found)
    told = study.task == "attribute" and not models.wide(found)  # each class stands above
    yield Section(
        "train-test-study",
        "Train x test",
        CROSSED,
        [] if told else [heatmaps.crossed(study, found, published), *(each for each in numbers if each.rows)],
    )
    yield from _images(study, found, published, spaces)
    figures = [trends.ranking(study, found), *trends.trends(study, found), heatmaps.combined(study, found)]
    yield Section(
        "models-study",
        "Which model?",
        RANKED,
        [
            *(figure for figure in figures if figure.panels),
            ranking.ranked(study, found),
            ranking.measured(study, found),
        ],
    )
    epochs = trends.epochs(study, found)
    yield Section("epochs-study", "Training", "", [epochs] if epochs.panels else [])
    if areas.wanted(study):
        yield Section(
            "areas-study",
            "Small and large fakes",
            "",
            [areas.figure(study, found), areas.table(study, found)],
        )


def _behind(study: Study, compared: Sequence[Table]) -> Iterator[Section]:
    yield Section("published", "Published beside measured", "", compared)
    solved = [budgets.baselines(study)] if captions.solved(study) else []
    yield Section("behind", "Baselines, data and trials", "", [*solved, overview.data(study), overview.trials(study)])
