"""What a page begins with: the answer, the figure that belongs to it, and a few predictions."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from dfloc.data.generators import SOURCE
from dfloc.record import SweepRecord
from dfloc.report.chart import Chart, Figure, Heat, Lines, Panel
from dfloc.report.gallery import Gallery
from dfloc.report.page import Opening, Report, Section

MAX_PANELS, MAX_LINES = 4, 18  # that fit beside the answer: panels, and rows of one
MAX_ROWS = 2
MORE = "{} (more panels)"
BELOW = "How they were chosen, what the columns are, and more of them stand below."
TREND = "fig-by-"
KINDS = (
    *("fig-worth", "fig-supervision", "fig-mean", "fig-search", TREND, "fig-combined", "fig-confusion", "fig-models"),
    "fig-train-test",
)
"""Ids of figures (and how those of trends begin): what a study is made for comes before what every study has."""


def opened(report: Report, answer: Mapping[str, str]) -> Report:
    """Return the report with an answer before all, and beside it the figure of its own comparison, which moves there.

    Args:
        report: whose sections hold the figures.
        answer: sentences by key.
    """
    figures = [block for block in report.blocks if isinstance(block, Figure)]
    main = next(_ranked(figures, list(answer)), None)
    if main is None:
        return replace(report, opening=Opening(answer))
    shown = _fitting(main)[:MAX_PANELS]
    others = [panel for panel in main.panels if panel not in shown]
    left = [replace(main, id=f"{main.id}-more", title=MORE.format(main.title), panels=others)] if others else []
    sections = [_with(section, main, left) for section in report.sections]
    return replace(
        report,
        sections=[section for section in sections if section.blocks or section.text],
        opening=Opening(answer, replace(main, panels=shown)),
    )


def beside(report: Report, images: Gallery) -> tuple[Report, Gallery | None]:
    """Return the report with the first rows of some images beside its answer, and the others; None where all moved."""
    heads = [replace(head, words="") for head in images.columns]
    first = replace(images, id=f"{images.id}-first", rows=images.rows[:MAX_ROWS])
    strip = replace(first, caption=f"{images.brief} {BELOW}", columns=heads, notes=())
    rest = replace(images, rows=images.rows[MAX_ROWS:])
    if not rest.rows:
        return replace(report, opening=replace(report.opening, strip=first)), None
    return replace(report, opening=replace(report.opening, strip=strip)), rest


def command(record: SweepRecord) -> str:
    """Return what was typed for a sweep, and goes on with it: without what changes a single start of it."""
    data = [] if record.data == SOURCE else ["--data", "DIR"]
    limit = [] if record.limit is None else ["--limit", str(record.limit)]
    return " ".join(["dfloc sweep", record.name, "--preset", record.preset, *data, *limit])


def _ranked(figures: Sequence[Figure], keys: Sequence[str]) -> Iterator[Figure]:
    """Yield what may stand beside the answer, the best first; of trends that of the setting it names first."""
    for kind in KINDS:
        those = [each for each in figures if each.id.startswith(kind) and _compares(each, keys)]
        place = {f"{TREND}{key}": at for at, key in enumerate(keys)}
        yield from sorted(those, key=lambda each: place.get(each.id, len(keys)))


def _compares(figure: Figure, keys: Collection[str]) -> bool:
    """Return whether what fits of a ranking has two models in some panel, of combinations what the answer names."""
    charts = [panel.chart for panel in _fitting(figure)]
    if figure.id == "fig-combined":
        return any({chart.x, chart.y} & {*keys} for chart in charts if isinstance(chart, Heat))
    return any(_lines(chart) != 1 or not isinstance(chart, Lines) for chart in charts)


def _fitting(figure: Figure) -> list[Panel]:
    return [panel for panel in figure.panels if _lines(panel.chart) <= MAX_LINES]


def _lines(chart: Chart) -> int:
    """Return how many lines a chart's rows take; 0 where it has none."""
    if isinstance(chart, Heat):
        return 2 * len(chart.rows)
    return len(chart.y.ticks or ()) if isinstance(chart, Lines) and chart.sideways else 0


def _with(section: Section, main: Figure, left: Sequence[Figure]) -> Section:
    """Return a section where what is left of a figure stands in its place."""
    found = ((left if block is main else [block]) for block in section.blocks)
    return replace(section, blocks=[block for blocks in found for block in blocks])
