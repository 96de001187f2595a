"""A sweep's report: built from its record, the ledger and the rows alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from upath import UPath

from dfloc import storage
from dfloc.record import SweepRecord
from dfloc.report import (
    beside,
    budgets,
    captions,
    claims,
    crossed,
    exposure,
    figures,
    models,
    overlap,
    overview,
    panel,
    placed,
    published,
    reading,
    search,
)
from dfloc.report.answer import answer
from dfloc.report.beside import Pair
from dfloc.report.controls import REPLAY, controls_of, main
from dfloc.report.estimate import pooled
from dfloc.report.groups import Study, run
from dfloc.report.page import Report, Section
from dfloc.report.results import Result, Results, Score
from dfloc.report.table import Table, csv_text, starred
from dfloc.storage import Workspace

EXPOSED = "A base model is trained on all domains but one, then fine-tuned on n images of that one."
PANEL = "A few test images"
CONTROLLED = "What fine-tuning owes to its base, and what n old images among the new ones keep."


def build(workspace: Workspace, record: SweepRecord, *, shards: UPath | None = None, with_panel: bool = True) -> UPath:
    """Write `reports/<sweep>/`: index.html, report.md, evaluations.csv and one CSV for each table.

    Args:
        workspace: where the sweep ran.
        record: what was planned under it.
        shards: folder of the data, for the panel of images; None = that of the data's name in the workspace.
        with_panel: whether the page shows images.

    Returns:
        The folder.

    Raises:
        ConfigError: the record names a published table that there is not.
        WorkspaceError: a ledger file or rows are damaged.
    """
    return write(workspace, Study(record, Results(workspace, record)), shards=shards, with_panel=with_panel)


def write(workspace: Workspace, study: Study, *, shards: UPath | None = None, with_panel: bool = True) -> UPath:
    """Write the report of a study that was read, as `build`."""
    studies = by_protocol(workspace, study)
    report = _report(workspace, study, studies)
    if with_panel and (block := panel.gallery(workspace, studies[0], shards)):
        report = report.before(("claims-study", "published", "behind"), Section("panel-study", PANEL, "", [block]))
    folder = workspace.report(study.record.sweep)
    for table in report.tables:
        storage.put(folder / f"{table.id}.csv", table.csv().encode())
    storage.put(folder / "evaluations.csv", csv_text(list(_evaluations(studies))).encode())
    storage.put(folder / "answer.json", storage.json_bytes(answer(studies[0]).content))
    storage.put(folder / "report.md", report.markdown().encode())
    storage.put(folder / "index.html", report.html().encode())
    return folder


def by_protocol(workspace: Workspace, study: Study) -> list[Study]:
    """Return what a page shows one after the other: a study of the trials and scores of each protocol, mostly one."""
    record = study.record
    if len(record.protocols) == 1:
        return [study]
    views = (record.by(protocol) for protocol in record.protocols)
    return [Study(view, Results(workspace, view)) for view in views]


def read(workspace: Workspace, record: SweepRecord) -> Report:
    """Return the figures and tables of a sweep's report; nothing is written.

    Raises:
        ConfigError, WorkspaceError: as `build`.
    """
    study = Study(record, Results(workspace, record))
    return _report(workspace, study, by_protocol(workspace, study))


def _report(workspace: Workspace, whole: Study, studies: Sequence[Study]) -> Report:
    record, study = whole.record, studies[0]
    tables = published.choose(published.load(unpublished=True), record.tables)
    sections, compared = _sections(workspace, study, tables)
    for other in studies[1:]:
        protocol = other.record.protocol
        sections += [section.marked(protocol, protocol) for section in _sections(workspace, other, tables)[0]]
    sections = _starred(sections)
    limit = f", --limit {record.limit}" if record.limit is not None else ""
    return Report(
        title=record.title,
        subtitle=f"Sweep {record.sweep}: {record.name}, preset {record.preset}, data {record.data}{limit}. "
        f"{overview.state_line(whole)}",
        reading=reading.lines(study, published=compared),
        warnings=[*overview.warnings(whole), *_unseen(whole, sections)],
        sections=sections,
        footer=list(dict.fromkeys([line for each in studies for line in _footer(each, tables)])),
    )


def _unseen(study: Study, sections: Sequence[Section]) -> list[str]:
    """Return a sentence with the names of the finished trials that no table of numbers and no figure shows."""
    seen = {name for one in sections for block in one.blocks if isinstance(block, Table) for name in block.trials}
    rest = [
        result.trial.name for name, result in study.results.by_fingerprint.items() if name not in seen and result.done
    ]
    return [f"Finished, but in no figure and in no table but that of all trials: {'; '.join(rest)}."] if rest else []


def _footer(study: Study, tables: Sequence[published.Table]) -> list[str]:
    return [*overview.footer(study), *beside.unplaced(study, tables)]


def _sections(workspace: Workspace, study: Study, tables: Sequence[published.Table]) -> tuple[list[Section], bool]:
    """Return the sections of one protocol, and whether published numbers stand beside."""
    found, trained = beside.pairs(study, tables), models.models(study)
    placed_pairs = placed.pairs(study, trained, tables)
    sections = [
        *search.sections(study),
        *_curves(workspace, study, _drawn(study, found)),
        *crossed.sections(study, trained, _drawn(study, placed_pairs)),
        claims.section(study),
        *_behind(study, [*beside.tables(study, found), *placed.tables(study, placed_pairs)]),
    ]
    return [section for section in sections if section.blocks], bool(found or placed_pairs)


def _starred(sections: Sequence[Section]) -> list[Section]:
    """Return the sections with a star at each difference of the page that luck does not explain."""
    tables = iter(starred([block for one in sections for block in one.blocks if isinstance(block, Table)]))
    return [
        replace(one, blocks=[next(tables) if isinstance(block, Table) else block for block in one.blocks])
        for one in sections
    ]


def _drawn(study: Study, found: Sequence[Pair]) -> list[Pair]:
    """Return the published numbers that a figure may hold: of the study's protocol; a table has a word for others."""
    return [pair for pair in found if pair.table.protocol == study.record.protocol]


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
        "forgetting-study", "What is forgotten", "", [exposure.forgetting(study)] if tuned or controlled else []
    )
    mixed = [budgets.budgets(study)] if budgets.lines(study) else []
    mixed += [budgets.equal_total(study)] if budgets.counted(study) else []
    yield Section("budgets-study", "Many domains or many images?", "", mixed)
    last = [exposure.best_last(study)] if tuned else []
    yield Section("measures", "Last epoch, AP and F1", "", last)


def _behind(study: Study, compared: Sequence[Table]) -> Iterator[Section]:
    yield Section("published", "Published beside measured", "", compared)
    solved = [budgets.baselines(study)] if captions.solved(study) else []
    yield Section("behind", "Baselines, data and trials", "", [*solved, overview.data(study), overview.trials(study)])


def _evaluations(studies: Sequence[Study]) -> Iterator[list[object]]:
    every = [(study, result) for study in studies for result in study.results.all]
    axes = list(dict.fromkeys(axis for _, result in every for axis in result.trial.axes))
    metrics = list(dict.fromkeys(metric for study in studies for metric in study.metrics))
    firsts = list(dict.fromkeys(study.first.key for study in studies))
    yield [
        "stage",
        "case",
        *axes,
        "state",
        "checkpoint",
        "test_domain",
        "protocol",
        "num_images",
        "num_photographs",
        *metrics,
        *(f"{first}_{what}" for first in firsts for what in ("low", "high", "all_fake")),
        "empty",
        "all_fake",
        "constant",
        "collapsed",
        "steps",
        "train_images",
        "trial",
        "evaluation",
    ]
    for study, result in every:
        trial = result.trial
        head = [trial.stage, trial.case, *(trial.axes.get(axis, "") for axis in axes), result.state]
        tail = [trial.spec.steps, trial.spec.train.size, trial.fingerprint]
        for score in result.scores.values():
            yield [*head, *_score(metrics, firsts, result, score), *tail, score.spec.key]
        if not result.scores:
            yield [*head, "", "", study.record.protocol, *[""] * (len(metrics) + 3 * len(firsts) + 6), *tail, ""]


def _score(metrics: Sequence[str], firsts: Sequence[str], result: Result, score: Score) -> list[object]:
    spec = score.spec
    found, other = pooled([run(result, [score])]), score.all_fake_mean
    judged = [found.low if found and found.known else "", found.high if found and found.known else ""]
    judged.append("" if other is None else other)
    return [
        spec.checkpoint,
        spec.domain,
        spec.protocol,
        score.num_images,
        score.num_photographs,
        *("" if (mean := score.mean(metric)) is None else mean for metric in metrics),
        *(value for first in firsts for value in (judged if first == score.metric().key else [""] * 3)),
        score.kinds.empty / score.num_images,
        score.kinds.all_fake / score.num_images,
        score.kinds.constant / score.kinds.told if score.kinds.told else "",
        bool(result.collapsed),
    ]
