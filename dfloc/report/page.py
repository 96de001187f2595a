"""The report as one HTML page that needs no network, and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources

from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from dfloc.report.gallery import Gallery
from dfloc.report.plot import Figure, Key, Panel
from dfloc.report.table import Table, escape

CONFIG = {"responsive": True, "displayModeBar": False}
FIT = (
    "const fit=new ResizeObserver(all=>all.forEach(one=>Plotly.Plots.resize(one.target)));"
    "document.querySelectorAll('.plot').forEach(plot=>fit.observe(plot));"
)


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
        """Return the page: styles, Plotly and numbers inside, everything escaped."""
        reading = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(words)}</dd></div>" for term, words in self.reading)
        links = "".join(f'<a href="#{escape(s.id)}">{escape(s.title)}</a>' for s in self.sections)
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{style()}</style>",
                f"<script>{get_plotlyjs()}</script></head><body>",
                f"<header><h1>{escape(self.title)}</h1><p>{escape(self.subtitle)}</p></header>",
                f'<section id="reading"><h2>How to read this page</h2><dl>{reading}</dl></section>',
                _warnings_html(self.warnings),
                f"<nav>{links}</nav>",
                *(_section_html(section) for section in self.sections),
                f"<script>{''.join(_draw(section) for section in self.sections)}{FIT}</script>",
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
    keys = "".join(_key_html(key) for key in figure.legend)
    plots = "".join(_panel_html(_panel_id(figure, place), panel) for place, panel in enumerate(figure.panels))
    return (
        f'<figure id="{escape(figure.id)}"><div class="keys">{keys}</div><div class="panels">{plots}</div>'
        f"{head}</figure>"
    )


def _panel_html(name: str, panel: Panel) -> str:
    return (
        f'<div class="panel{" wide" if panel.wide else ""}"><h3>{escape(panel.title)}</h3>'
        f'<div id="{escape(name)}" class="plot" style="height:{panel.figure.layout.height}px" role="img" '
        f'aria-label="{escape(panel.words)}">'
        f"<noscript>{escape(panel.words)}</noscript></div></div>"
    )


def _draw(section: Section) -> str:
    """Return the calls that draw a section's panels: at the end of the page, when the widths are known."""
    calls = []
    for figure in (block for block in section.blocks if isinstance(block, Figure)):
        for place, panel in enumerate(figure.panels):
            spec = panel.figure.to_plotly_json()
            parts = (_panel_id(figure, place), spec["data"], spec["layout"], CONFIG)
            calls.append(f"Plotly.newPlot({','.join(to_json_plotly(part) for part in parts)});")
    return "".join(calls)


def _panel_id(figure: Figure, place: int) -> str:
    return f"{figure.id}-{place}"


def _key_html(key: Key) -> str:
    colour = escape(key.colour)
    dash = {"dash": "6 4", "dot": "2 3"}.get(key.dash, "")
    line = f'<path d="M0 7H28" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>' if key.dash else ""
    fill = "white" if key.marker.endswith("-open") else colour
    shapes = {
        "circle": '<circle cx="14" cy="7" r="4"',
        "square": '<rect x="10" y="3" width="8" height="8"',
        "triangle-up": '<path d="M14 2L19 11H9Z"',
        "diamond": '<path d="M14 1L20 7L14 13L8 7Z"',
        "tick": '<path d="M14 1V13" stroke-width="2"',
        "frame": '<rect x="8" y="1" width="12" height="12" fill-opacity="0" stroke-width="1.6"',
    }
    shape = shapes.get(key.marker.removesuffix("-open"), "")
    marker = f'{shape} fill="{fill}" stroke="{colour}"/>' if shape else ""
    return f'<span><svg width="28" height="14" aria-hidden="true">{line}{marker}</svg>{escape(key.label)}</span>'


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
