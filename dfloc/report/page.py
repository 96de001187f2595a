"""What a page says, as data: sections of figures, tables and images; templates make HTML and Markdown of it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dfloc.report.chart import Figure
from dfloc.report.gallery import Gallery
from dfloc.report.table import Table

Block = Figure | Table | Gallery
SAID_ONCE = (
    "Protocol",
    "Test:",
    "Training seeds",
    "Intervals:",
    "A cross:",
    "A star:",
    "Reals flagged:",
    "Reals:",
)  # how sentences of a source begin


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, figures, tables and galleries: a kind of block has a template of its name.

    Attributes:
        chip: what must be known of all of it, in a few words before the text.
    """

    id: str
    title: str
    text: str
    blocks: Sequence[Block]
    chip: str = ""

    def marked(self, mark: str, words: str) -> "Section":
        """Return the section beside another of its kind: ids end in a mark, titles in words."""
        blocks = [replace(block, id=f"{block.id}-{mark}", title=f"{block.title} ({words})") for block in self.blocks]
        for place, block in enumerate(blocks):
            if isinstance(block, Figure) and block.numbers:
                blocks[place] = replace(block, numbers=f"{block.numbers}-{mark}")
        return replace(self, id=f"{self.id}-{mark}", title=f"{self.title} ({words})", blocks=blocks)


@dataclass(frozen=True)
class Opening:
    """What a page begins with.

    Attributes:
        answer: what the study finds: sentences by key.
        figure: its own comparison; None where it has none.
        strip: a few predictions; None where there are none.
    """

    answer: Mapping[str, str] = field(default_factory=dict)
    figure: Figure | None = None
    strip: Gallery | None = None


@dataclass(frozen=True)
class Report:
    """What the page and the Markdown file say.

    Attributes:
        command: what makes and extends the study.
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
    opening: Opening = field(default_factory=Opening)
    command: str = ""

    @property
    def blocks(self) -> list[Block]:
        """Every figure, table and gallery, in order."""
        first = [block for block in (self.opening.figure, self.opening.strip) if block]
        return [*first, *(block for section in self.sections for block in section.blocks)]

    @property
    def warned(self) -> str:
        """The first warning, and what the others are of, in a line."""
        heads = dict.fromkeys(re.split(r"[:.;] | \(|\.$", each)[0] for each in self.warnings[1:])
        return " ".join([*self.warnings[:1], *([f"Also: {'; '.join(heads)}."] if heads else [])])

    @property
    def tables(self) -> list[Table]:
        """Every table, in order."""
        return [block for block in self.blocks if isinstance(block, Table)]

    def said_once(self) -> "Report":
        """Return the report whose captions leave out what all of them say, which stands under "How to read" instead."""
        sources = [block.source for one in self.sections for block in one.blocks if not isinstance(block, Gallery)]
        kinds: dict[str, Counter[str]] = {}
        for sentence in (sentence for source in sources for sentence in source):
            if kind := next((kind for kind in SAID_ONCE if sentence.startswith(kind)), ""):
                kinds.setdefault(kind, Counter())[sentence] += 1
        shared = [sentence for of in kinds.values() for sentence, count in of.most_common(1) if count > 1]
        if not shared:
            return self

        def told(block: Block) -> Block:
            return block if isinstance(block, Gallery) else replace(block, shared=frozenset(shared))

        sections = [replace(one, blocks=[told(block) for block in one.blocks]) for one in self.sections]
        line = ("All figures and tables", f"{' '.join(shared)} Where one differs, its caption says so.")
        return replace(self, sections=sections, reading=[*self.reading, line])

    def within(self, id_: str, block: Block) -> "Report":
        """Return the report with a block more in the section of an id."""
        sections = [replace(one, blocks=[*one.blocks, block]) if one.id == id_ else one for one in self.sections]
        return replace(self, sections=sections)

    def before(self, ids: Sequence[str], section: Section) -> "Report":
        """Return the report with a section more, before the first of these, or at the end."""
        place = next((i for i, each in enumerate(self.sections) if each.id in ids), len(self.sections))
        return replace(self, sections=[*self.sections[:place], section, *self.sections[place:]])
