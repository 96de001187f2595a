"""Pages from templates: HTML that needs no other file, and Markdown; a text is escaped unless a template says so."""

import re
from collections import Counter
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dfloc.report import reading, svg
from dfloc.report.brief import brief
from dfloc.report.chart import Figure, LegendKey, Panel
from dfloc.report.draw import draw, size
from dfloc.report.page import Report
from dfloc.report.sheet import GLYPH, LINE, Sheet, style

PIXELS = 4 / 3  # of a point
ENDS = re.compile(r"</(?:td|th|tr)>")  # of what ends where the next begins
LOOKS = re.compile(r'(<(?:path|use|text)\b[^>]*?) style="([^"]*)"')
BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
PARTS = re.compile(r"<(?:path|use|text)\b[^>]*>")  # of a figure
UPRIGHT = re.compile(r"M(-?[\d.]+) (-?[\d.]+)L\1 ")
PLACES = re.compile(r' (?:d|x|y)="[^"]*"')


def html(template: str, **values: object) -> str:
    """Return a page (`page`, `index`) with styles, figures and images inside.

    Args:
        template: `templates/<template>.html.j2`.
        values: what it reads.
    """
    with style():
        return _small(environment().get_template(f"{template}.html.j2").render(values))


def _small(text: str) -> str:
    """Return a page without ends of cells and rows, quotes in figures and looks that they repeat."""
    counts = Counter(look for _, look in LOOKS.findall(text))
    names = {look: f"l{place}" for place, (look, count) in enumerate(counts.most_common()) if count > 1}
    rules = "".join(f".{name} {{ {look} }}\n" for look, name in names.items())

    def named(found: re.Match[str]) -> str:
        return f'{found[1]} class="{names[found[2]]}"' if found[2] in names else found[0]

    bare = PARTS.sub(lambda found: re.sub(r'="([\w.#-]+)"', r"=\1", found[0]), LOOKS.sub(named, text))
    return ENDS.sub("", bare).replace("</style>", f"{rules}</style>", 1)


def markdown(template: str, **values: object) -> str:
    """Return `templates/<template>.md.j2`: tables, and in words what figures and images show."""
    text = environment().overlay(finalize=_in_a_line).get_template(f"{template}.md.j2").render(values)
    return text.replace("&#39;", "'").replace("&#34;", '"')  # quotes end nothing outside of attributes


def _in_a_line(value: object) -> object:
    """Return a text in one line: another would begin a heading, a list or a quote of its own."""
    return type(value)(BREAKS.sub(" ", value)) if isinstance(value, str) else value


@cache
def environment() -> Environment:
    """Return what the pages are made by: nothing that a template asks for may be missing."""
    made = Environment(
        loader=PackageLoader("dfloc.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "brief": brief,
        "kind": lambda block: type(block).__name__.lower(),
        "linked": _linked,
        "prefix": _prefix,
    }
    made.globals |= {"chart": _chart, "glyph": _glyph}
    return made


def _linked(text: str, page: Report | None, told: bool = False) -> Markup:
    """Return a text where each term of "How to read" links to what it means, once.

    Args:
        text: it, not yet escaped.
        page: whose terms they are; None: of no page.
        told: whether the meaning is in the link too, for a pointer that rests on it.
    """
    found = list[tuple[int, int, int]]()
    for place, (term, _) in enumerate(page.reading if page else ()):
        spans = (re.search(rf"(?<![\w/-]){word}(?![\w/-])", text) for word in reading.WRITTEN.get(term, ()))
        new = [each.span() for each in spans if each]
        new = [(low, high) for low, high in new if all(high <= start or end <= low for start, end, _ in found)]
        found += [(low, high, place) for low, high in new[:1]]
    parts, done = list[str](), 0
    for low, high, place in sorted(found):
        title = Markup(' title="{}"').format(page.reading[place][1]) if told and page else ""
        link = Markup('<a class="term" href="#reading-{}"{}>{}</a>').format(place + 1, title, text[low:high])
        parts += [escape(text[done:low]), link]
        done = high
    return Markup().join([*parts, escape(text[done:])])


def _prefix(block: Figure, page: Report | None) -> str:
    """Return how ids inside a figure begin: shortly, since each point names one."""
    places = [place for place, each in enumerate(page.blocks if page else ()) if each is block]
    return f"f{places[0]}" if places else block.id


def _chart(panel: Panel, name: str) -> str:
    """Return a panel as SVG; its ids begin with a name, its places are tenths of a point, a sixth of a pixel."""
    width, height = size(panel)
    sheet = Sheet(width, height)
    draw(sheet, panel, 0, 0)
    label = {"role": "img", "aria-label": panel.words}
    look = f"max-width:{1.25 * PIXELS * width:.0f}px"
    text = svg.written(sheet.figure, name, sheet.titles, **label, style=look)
    text = PLACES.sub(lambda found: re.sub(r"\d+\.\d\d", _tenth, found[0]), text)
    return UPRIGHT.sub(r"M\1 \2V", text)


def _tenth(found: re.Match[str]) -> str:
    return f"{float(found[0]):.1f}".removesuffix(".0")


def _glyph(key: LegendKey, name: str) -> str:
    """Return what a legend shows beside a name as SVG."""
    sheet = Sheet(GLYPH, LINE)
    sheet.key(key, 0, 0)
    look = {"aria-hidden": "true", "width": f"{PIXELS * GLYPH:.0f}", "height": f"{PIXELS * LINE:.0f}"}
    return svg.written(sheet.figure, name, {}, **look)
