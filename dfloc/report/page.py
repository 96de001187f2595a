"""The report as one HTML page that needs no network, and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources

from dfloc.report import svg
from dfloc.report.chart import Figure, Key, Panel, Value
from dfloc.report.draw import draw, size
from dfloc.report.gallery import Gallery
from dfloc.report.sheet import GLYPH, LINE, Sheet
from dfloc.report.sheet import style as drawing
from dfloc.report.table import Table, escape

PIXELS = 4 / 3  # of a point


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, figures, tables and galleries."""

    id: str
    title: str
    text: str
    blocks: Sequence[Figure | Table | Gallery]

    def marked(self, mark: str, words: str) -> "Section":
        """Return the section beside another of its kind: ids end in a mark, titles in words."""
        blocks = [replace(block, id=f"{block.id}-{mark}", title=f"{block.title} ({words})") for block in self.blocks]
        for place, block in enumerate(blocks):
            if isinstance(block, Figure) and block.numbers:
                blocks[place] = replace(block, numbers=f"{block.numbers}-{mark}")
        return Section(f"{self.id}-{mark}", f"{self.title} ({words})", self.text, blocks)


@dataclass(frozen=True)
class Report:
    """What the page and the Markdown file say.

    Attributes:
        reading: "How to read this page": term and explanation.
        warnings: what must be known before the numbers.
        footer: versions and counts at the end.
    """

    title: str
    subtitle: str
    reading: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    sections: Sequence[Section]
    footer: Sequence[str]

    @property
    def tables(self) -> list[Table]:
        """Every table, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Table)]

    def before(self, ids: Sequence[str], section: Section) -> "Report":
        """Return the report with a section more, before the first of these, or at the end."""
        place = next((i for i, each in enumerate(self.sections) if each.id in ids), len(self.sections))
        return replace(self, sections=[*self.sections[:place], section, *self.sections[place:]])

    def html(self) -> str:
        """Return the page: styles, figures and numbers inside, everything escaped."""
        reading = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(words)}</dd></div>" for term, words in self.reading)
        links = "".join(f'<a href="#{escape(s.id)}">{escape(s.title)}</a>' for s in self.sections)
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{style()}</style>",
                "</head><body>",
                f"<header><h1>{escape(self.title)}</h1><p>{escape(self.subtitle)}</p></header>",
                f'<section id="reading"><h2>How to read this page</h2><dl>{reading}</dl></section>',
                _warnings_html(self.warnings),
                f"<nav>{links}</nav>",
                *(_section_html(section) for section in self.sections),
                "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in self.footer) + "</footer></body></html>",
                "",
            ]
        )

    def markdown(self) -> str:
        """Return the tables, and in words what the figures show."""
        lines = [f"# {_plain(self.title)}", "", _plain(self.subtitle), "", "## How to read this page", ""]
        lines += [f"- **{_plain(term)}**: {_plain(words)}" for term, words in self.reading]
        lines += ["", *(f"> {_plain(warning)}\n>" for warning in self.warnings), ""]
        for section in self.sections:
            lines += [f"## {_plain(section.title)}", "", _plain(section.text), ""]
            for block in section.blocks:
                lines += [_figure_markdown(block) if isinstance(block, Figure) else block.markdown()]
        return "\n".join([*lines, "---", "", *(f"- {_plain(line)}" for line in self.footer), ""])


def _section_html(section: Section) -> str:
    blocks = [_figure_html(block) if isinstance(block, Figure) else block.html() for block in section.blocks]
    text = f"<p>{escape(section.text)}</p>" if section.text else ""
    return "\n".join(
        [f'<section id="{escape(section.id)}"><h2>{escape(section.title)}</h2>{text}', *blocks, "</section>"]
    )


def _figure_html(figure: Figure) -> str:
    link = f'<a href="#{escape(figure.numbers)}">Numbers</a>' if figure.numbers else ""
    head = f"<figcaption><b>{escape(figure.title)}</b> {escape(figure.caption)} {link}</figcaption>"
    with drawing():
        keys = "".join(_key_html(key, f"{figure.id}-key-{place}") for place, key in enumerate(figure.legend))
        panels = "".join(_panel_html(panel, f"{figure.id}-{place}") for place, panel in enumerate(figure.panels))
    return (
        f'<figure id="{escape(figure.id)}"><div class="keys">{keys}</div><div class="panels">{panels}</div>'
        f"{head}{_values_html(figure)}</figure>"
    )


def _panel_html(panel: Panel, name: str) -> str:
    width, height = size(panel)
    sheet = Sheet(width, height)
    draw(sheet, panel, 0, 0)
    label = {"role": "img", "aria-label": panel.words}
    chart = svg.written(sheet.figure, name, sheet.titles, **label, style=f"max-width:{1.25 * PIXELS * width:.0f}px")
    return f'<div class="panel{" wide" if panel.wide else ""}"><h3>{escape(panel.title)}</h3>{chart}</div>'


def _key_html(key: Key, name: str) -> str:
    sheet = Sheet(GLYPH, LINE)
    sheet.key(key, 0, 0)
    look = {"aria-hidden": "true", "width": f"{PIXELS * GLYPH:.0f}", "height": f"{PIXELS * LINE:.0f}"}
    return f"<span>{svg.written(sheet.figure, name, {}, **look)}{escape(key.label)}</span>"


def _values_html(figure: Figure) -> str:
    """Return what a figure shows as numbers, on a click."""
    heads = next((panel.chart.heads for panel in figure.panels), ("", "", ""))
    heads = (heads[0], heads[1].partition(",")[0], heads[2])
    head = "".join(f"<th>{escape(name)}</th>" for name in (*heads, "low", "high", "note"))
    parts = [
        f'<tbody><tr><th colspan="6" class="words">{escape(panel.title)}</th></tr>'
        + "".join(map(_value_html, panel.chart.values))
        + "</tbody>"
        for panel in figure.panels
    ]
    table = f'<div class="scroll long" tabindex="0"><table><thead><tr>{head}</tr></thead>{"".join(parts)}</table></div>'
    return f'<details class="values"><summary>Values</summary>{table}</details>' if parts else ""


def _value_html(value: Value) -> str:
    numbers = ["" if each is None else f"{each:.3f}" for each in (value.value, *(value.span or (None, None)))]
    words = [value.series, value.x, *numbers, "; ".join(value.notes)]
    return "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in words) + "</tr>"


def _warnings_html(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<ul class="warnings">{items}</ul>' if items else ""


def _figure_markdown(figure: Figure) -> str:
    words = "\n".join(f"- {_plain(panel.title)}: {_plain(panel.words)}" for panel in figure.panels)
    return f"**{_plain(figure.title)}** {_plain(figure.caption)} (drawn in index.html)\n\n{words}\n"


def style() -> str:
    """Return the style sheet of every page."""
    return (resources.files("dfloc.report") / "style.css").read_text(encoding="utf-8")


def _plain(text: str) -> str:
    return escape(text).replace("&#x27;", "'").replace("&quot;", '"')
