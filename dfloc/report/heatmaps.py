"""Heat maps: train x test for each model, and the mean of each combination of two settings."""

from collections.abc import Sequence

from dfloc.metrics.metric import IOU
from dfloc.report import captions
from dfloc.report.address import MATRICES
from dfloc.report.cells import notes
from dfloc.report.chart import Figure, Heat, LegendKey, Panel, Tile, span_of
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Study
from dfloc.report.models import KINDS, MatrixColumn, Model, Part, Which, best, case_of, narrow, settings, wide
from dfloc.report.place import Pair, quoted
from dfloc.report.words import named, spelled

MAX_PANELS = 16
WIDE = 5  # columns from which on numbers have two decimals
DOUBTFUL = (
    " A published number with ? is doubtful by its source; of a table called context, the protocol or main settings "
    "are not known."
)
FRAME = LegendKey("in-domain: trained on the test domain's family", "#111111", "", "frame")


def crossed(study: Study, found: Sequence[Model], published: Sequence[Pair] = ()) -> Figure:
    """Return one heat map for each model and published matrix: rows are test domains, columns training data.

    Models of one training each are the rows of one heat map together.
    """
    shown = best(study, found, MAX_PANELS)
    left = len(found) - len(shown)
    drawn = [_crossed(study, model) for model in wide(shown)]
    drawn += [_beside(study, training, block) for training, block in narrow(shown).items()]
    beside = _published(published)
    drawn += beside
    groups = [group for model in shown for group in model.groups]
    fewer = f" {left} models with a lower validation {study.measure} are in the table alone." if left else ""
    return Figure(
        id="fig-train-test",
        title=f"Test {study.first.label} by training data and test domain.",
        caption="One panel for each model, the same colours in all: white is 0, dark blue is 1. A frame: in-domain. "
        f"x: over 90 % of the predictions empty, all fake or constant, or {study.first.label} not above all fake."
        f"{DOUBTFUL if beside else ''}{fewer} {quoted(study, _matrices(published))}",
        source=captions.provenance(study, groups),
        panels=drawn,
        legend=[FRAME],
        numbers="train-test" if wide(found) else "tested",
    )


def combined(study: Study, found: Sequence[Model]) -> Figure:
    """Return heat maps of mean IoU over two settings that a stage crosses; one for each value of what else varies."""
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
        title=f"Mean test {study.first.label} of each combination.",
        caption="In-domain: over the test domains whose family the model was trained on; out-of-domain: over the "
        "others; models of one panel differ in the two settings alone. White is 0, dark blue is 1.",
        source=captions.provenance(study, used),
        panels=drawn,
        legend=[],
        numbers="models",
    )


def _crossed(study: Study, model: Model) -> Panel:
    domains, columns = [*study.tested, *study.extra], model.columns
    digits = 2 if len(columns) > WIDE else 3
    tiles = [[_tile(column, domain, digits) for column in columns] for domain in domains]
    names = [column.name for column in columns]
    said = [
        f"{column.name}: " + ", ".join(f"{domain} {line[j].text}" for domain, line in zip(domains, tiles, strict=True))
        for j, column in enumerate(columns)
    ]
    words = "; ".join(said)
    chart = Heat(domains, names, tiles, "trained on", "tested on")
    return Panel(model.name, chart, f"Trained on and tested on {words}.", wide=len(names) > WIDE)


def _beside(study: Study, training: str, block: Sequence[tuple[Model, MatrixColumn]]) -> Panel:
    """Return models that are all trained on the same: rows are models, columns test domains."""
    domains = [*study.tested, *study.extra]
    tiles = [[_tile(column, domain, 3) for domain in domains] for _, column in block]
    names = [model.name for model, _ in block]
    said = [
        f"{name}: " + ", ".join(f"{domain} {tile.text}" for domain, tile in zip(domains, line, strict=True))
        for name, line in zip(names, tiles, strict=True)
    ]
    return Panel(f"Trained on {training}", Heat(names, domains, tiles, "tested on", ""), f"{'; '.join(said)}.")


def _matrices(found: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in found if pair.table.metric == IOU.key and pair.table.axes in MATRICES]


def _published(found: Sequence[Pair]) -> list[Panel]:
    """Return the published matrices of IoU."""
    by_table: dict[str, list[Pair]] = {}
    for pair in _matrices(found):
        by_table.setdefault(pair.table.id, []).append(pair)
    drawn = []
    for name, pairs in by_table.items():
        cells: dict[tuple[str, str], list[Pair]] = {}
        for pair in pairs:
            cells.setdefault((str(pair.published.row), pair.col), []).append(pair)
        rows, columns = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
        digits = 2 if len(columns) > WIDE else 3
        tiles = [[_quoted(cells.get((row, column), []), digits) for column in columns] for row in rows]
        source = pairs[0].table
        words = f"{source.kind}: table {name}; its numbers stand beside ours below."
        chart = Heat(rows, columns, tiles, "trained on", "tested on")
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
    training, domain = str(cell.col), str(cell.row)
    others = training.startswith("without-") and not domain.endswith(f"/{training.removeprefix('without-')}")
    framed = training == domain or others or training.startswith("train_all")
    return Tile(cell.value, text, [*filter(None, [cell.reason]), *ours], framed)


def _tile(column: MatrixColumn, domain: str, digits: int) -> Tile:
    found, group = column.group.score([domain]), column.group
    framed = column.knows(domain)
    if found is None:
        return Tile(None, group.hole, [], framed)
    marks = notes(group, [domain])
    text = f"{found.value:.{digits}f}{' x' if marks else ''}"
    spec = group.first.trial.spec
    lines = [f"{spec.steps:,} steps", *marks, f"{found.runs} run(s), {found.photographs} source images"]
    return Tile(found.value, text, lines, framed, span_of(found))


def _means(study: Study, block: Sequence[Part], axes: tuple[str, str], words: str, which: Which, head: str) -> Panel:
    rows, columns = (_values(block, axis) for axis in axes)
    there = {tuple(str(part.groups[0].axes[axis]) for axis in axes): part for part in block}
    tiles = [[_mean(study, there.get((row, column)), which) for column in columns] for row in rows]
    names = [list(_values(block, axis).values()) for axis in axes]
    said = "; ".join(
        f"{row} with " + ", ".join(f"{column} {tile.text}" for column, tile in zip(names[1], line, strict=True))
        for row, line in zip(names[0], tiles, strict=True)
    )
    chart = Heat(names[0], names[1], tiles, axes[1].rpartition(".")[2], axes[0].rpartition(".")[2])
    return Panel(f"{head}: {words}" if head else words, chart, f"Mean test {study.first.label}, {words}: {said}.")


def _mean(study: Study, part: Part | None, which: Which) -> Tile:
    found: Estimate | None = part.mean(study, which) if part else None
    if part is None or found is None:
        return Tile(None, part.hole if part else "not planned", [])
    return Tile(found.value, f"{found.value:.3f}", [part.model.name], span=span_of(found))


def _values(block: Sequence[Part], axis: str) -> dict[str, str]:
    """Return the values of an axis, and what each is called."""
    values = [part.groups[0].axes[axis] for part in block]
    return {str(value): spelled(value) for value in values}
