"""Heat maps: train x test for each model, and the mean of each combination of two settings."""

from collections.abc import Sequence

from dfloc.metrics.metric import IMAGE_RIGHT, IOU, Metric
from dfloc.report import captions
from dfloc.report.address import DETECTION, MATRICES
from dfloc.report.cells import ONE_CLASS, notes, number
from dfloc.report.chart import Figure, Heat, LegendKey, Panel, Tile, span_of
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Group, Study
from dfloc.report.models import KINDS, MatrixColumn, Model, Part, Which, best, case_of, narrow, settings, wide
from dfloc.report.place import Pair, quoted
from dfloc.report.words import named, spelled

MAX_PANELS = 16
WIDE = 5  # columns from which on numbers have two decimals
DOUBTFUL = (
    " A published number with ? is doubtful by its source; of a table called context, the protocol or main settings "
    "are not known."
)
WHICH = "Share of images called right (of fakes TPR, of reals TNR)"
FRAME = LegendKey("in-domain: trained on the test domain's family", "#111111", "", "frame")


def crossed(
    study: Study, found: Sequence[Model], published: Sequence[Pair] = (), metric: Metric | None = None
) -> Figure:
    """Return one heat map for each model and published matrix: rows are test domains, columns training data.

    Models of one training each are the rows of one heat map together.

    Args:
        study: that is shown.
        found: its models.
        published: numbers that stand beside ours.
        metric: what is shown; None: what stands for the protocol. Of images that are called right reals are rows too.
    """
    shown, of = best(study, found, MAX_PANELS), metric or study.first
    left = len(found) - len(shown)
    drawn = [_crossed(study, model, of) for model in wide(shown)]
    drawn += [_beside(study, training, block, of) for training, block in narrow(shown).items()]
    beside = _published(study, published)
    drawn += beside
    groups = [group for model in shown for group in model.groups]
    fewer = f" {left} models with a lower validation {study.measure} are in the table alone." if left else ""
    return Figure(
        id=f"fig-train-test-{metric.key.removeprefix('image_')}" if metric else "fig-train-test",
        title=f"{WHICH if of == IMAGE_RIGHT else f'Test {of.word}'} by training data and test domain.",
        caption="One panel for each model, the same colours in all: white is 0, dark blue is 1. A frame: in-domain. "
        f"x: {_cross(study)}.{DOUBTFUL if beside else ''}{fewer} {quoted(study, _matrices(study, published))}",
        source=captions.provenance(study, groups),
        panels=drawn,
        legend=[FRAME],
        numbers="cells" if metric else "train-test" if wide(found) else "tested",
    )


def combined(study: Study, found: Sequence[Model]) -> Figure:
    """Return heat maps of means over two settings that a stage crosses; one for each value of what else varies."""
    blocks: dict[tuple[str, ...], list[Part]] = {}
    for part in (part for model in found for part in model.parts):
        axes = settings(part.groups[0])
        if len(axes) >= 2:
            group = part.groups[0]
            rest = [named(axis, group.axes[axis]) for axis in axes[2:]]
            blocks.setdefault((group.stage, case_of(group), part.kind, *axes[:2], *rest), []).append(part)
    drawn, used = [], []
    for (stage, case, _, rows, columns, *rest), block in blocks.items():
        if min(len(_values(block, axis)) for axis in (rows, columns)) < 2:
            continue
        used += [group for part in block for group in part.groups]
        head = ", ".join(filter(None, [stage, case, *rest]))
        means = {words: which for words, which in KINDS.items() if all(part.cells(study, which) for part in block)}
        drawn += [_means(study, block, (rows, columns), words, which, head) for words, which in means.items()]
    return Figure(
        id="fig-combined",
        title=f"Mean test {study.first.word} of each combination.",
        caption="In-domain: over the test domains whose family the model was trained on; out-of-domain: over the "
        "others; models of one panel differ in the two settings alone. White is 0, dark blue is 1.",
        source=captions.provenance(study, used),
        panels=drawn,
        legend=[],
        numbers="models",
    )


def _cross(study: Study) -> str:
    if study.protocol.reads == "image":
        return ONE_CLASS
    return f"over 90 % of the predictions empty, all fake or constant, or {study.first.label} not above all fake"


def _domains(study: Study, metric: Metric) -> list[str]:
    """Return the test domains that a metric is of: that of single images is of reals too."""
    return [*study.tested, *study.extra, *(study.reals if metric == IMAGE_RIGHT else ())]


def _crossed(study: Study, model: Model, metric: Metric) -> Panel:
    domains, columns = _domains(study, metric), model.columns
    digits = 2 if len(columns) > WIDE else 3
    tiles = [[_tile(column, domain, digits, metric) for column in columns] for domain in domains]
    names = [column.name for column in columns]
    said = [
        f"{column.name}: " + ", ".join(f"{domain} {line[j].text}" for domain, line in zip(domains, tiles, strict=True))
        for j, column in enumerate(columns)
    ]
    words = "; ".join(said)
    chart = Heat(domains, names, tiles, "trained on", "tested on", metric.label)
    return Panel(model.name, chart, f"Trained on and tested on {words}.", wide=len(names) > WIDE)


def _beside(study: Study, training: str, block: Sequence[tuple[Model, MatrixColumn]], metric: Metric) -> Panel:
    """Return models that are all trained on the same: rows are models, columns test domains."""
    domains = _domains(study, metric)
    tiles = [[_tile(column, domain, 3, metric) for domain in domains] for _, column in block]
    names = [model.name for model, _ in block]
    said = [
        f"{name}: " + ", ".join(f"{domain} {tile.text}" for domain, tile in zip(domains, line, strict=True))
        for name, line in zip(names, tiles, strict=True)
    ]
    chart = Heat(names, domains, tiles, "tested on", "", metric.label)
    return Panel(f"Trained on {training}", chart, f"{'; '.join(said)}.")


def _matrices(study: Study, found: Sequence[Pair]) -> list[Pair]:
    if study.task == "localize":
        return [pair for pair in found if pair.table.metric == IOU.key and pair.table.axes in MATRICES]
    return [pair for pair in found if pair.table.axes == DETECTION]


def _sides(pair: Pair) -> tuple[str, str]:
    """Return the test domain and the training data of a published number."""
    row, column = str(pair.published.row), pair.col
    return (column, row) if pair.table.axes == DETECTION else (row, column)


def _published(study: Study, found: Sequence[Pair]) -> list[Panel]:
    """Return the published matrices of what is shown."""
    by_table: dict[str, list[Pair]] = {}
    for pair in _matrices(study, found):
        by_table.setdefault(pair.table.id, []).append(pair)
    drawn = []
    for name, pairs in by_table.items():
        cells: dict[tuple[str, str], list[Pair]] = {}
        for pair in pairs:
            cells.setdefault(_sides(pair), []).append(pair)
        rows, columns = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
        digits = 2 if len(columns) > WIDE else 3
        tiles = [[_quoted(cells.get((row, column), []), digits) for column in columns] for row in rows]
        source = pairs[0].table
        words = f"{source.kind}: table {name}; its numbers stand beside ours below."
        measured = IOU.label if source.metric == IOU.key else str(source.metric)
        chart = Heat(rows, columns, tiles, "trained on", "tested on", measured)
        title = f"{source.kind}: {name}{'' if source.comparable else ' (context)'}"
        drawn.append(Panel(title, chart, words, wide=len(columns) > WIDE))
    return drawn


def _quoted(found: Sequence[Pair], digits: int) -> Tile:
    """Return a published number, with those of ours that stand beside it."""
    if not found:
        return Tile(None, "-", [])
    cell = found[0].published
    ours = [f"{pair.where}, {line}" for pair in found for line in pair.told()]
    text = f"{cell.value:.{digits}f}{'' if cell.status == 'ok' else ' ?'}"
    domain, training = map(str, (cell.col, cell.row) if found[0].table.axes == DETECTION else (cell.row, cell.col))
    others = training.startswith("without-") and not domain.endswith(f"/{training.removeprefix('without-')}")
    framed = training == domain or others or training.startswith("train_all")
    return Tile(cell.value, text, [*filter(None, [cell.reason]), *ours], framed)


def _tile(column: MatrixColumn, domain: str, digits: int, metric: Metric) -> Tile:
    group, framed = column.group, column.knows(domain)
    if metric.of_set:
        return _of_set(group, domain, digits, metric, framed=framed)
    found = group.score([domain], metric.key)
    if found is None:
        return Tile(None, group.hole, [], framed)
    marks = notes(group, [domain])
    text = f"{found.value:.{digits}f}{' x' if marks else ''}"
    spec = group.first.trial.spec
    lines = [f"{spec.steps:,} steps", *marks, f"{found.runs} run(s), {found.photographs} source images"]
    return Tile(found.value, text, lines, framed, span_of(found))


def _of_set(group: Group, domain: str, digits: int, metric: Metric, *, framed: bool) -> Tile:
    """Return the mean over trainings of a number of whole sets: its interval would take a bootstrap, it has none."""
    found, marks = number(group, domain, metric), notes(group, [domain])
    if found is None:
        return Tile(None, group.hole, [], framed)
    return Tile(found, f"{found:.{digits}f}{' x' if marks else ''}", marks, framed)


def _means(study: Study, block: Sequence[Part], axes: tuple[str, str], words: str, which: Which, head: str) -> Panel:
    rows, columns = (_values(block, axis) for axis in axes)
    there = {tuple(str(part.groups[0].axes[axis]) for axis in axes): part for part in block}
    tiles = [[_mean(study, there.get((row, column)), which) for column in columns] for row in rows]
    names = [list(_values(block, axis).values()) for axis in axes]
    said = "; ".join(
        f"{row} with " + ", ".join(f"{column} {tile.text}" for column, tile in zip(names[1], line, strict=True))
        for row, line in zip(names[0], tiles, strict=True)
    )
    chart = Heat(names[0], names[1], tiles, axes[1].rpartition(".")[2], axes[0].rpartition(".")[2], study.first.label)
    return Panel(f"{head}: {words}" if head else words, chart, f"Mean test {study.first.word}, {words}: {said}.")


def _mean(study: Study, part: Part | None, which: Which) -> Tile:
    found: Estimate | None = part.mean(study, which) if part else None
    if part is None or found is None:
        return Tile(None, part.hole if part else "not planned", [])
    return Tile(found.value, f"{found.value:.3f}", [part.model.name], span=span_of(found))


def _values(block: Sequence[Part], axis: str) -> dict[str, str]:
    """Return the values of an axis, and what each is called."""
    values = [part.groups[0].axes[axis] for part in block]
    return {str(value): spelled(value) for value in values}
