"""One page over the reports of all sweeps of a workspace: what each asks, how far it is, and its headline."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from upath import UPath

from dfloc import storage
from dfloc.errors import DflocError
from dfloc.record import SweepRecord
from dfloc.report import overview
from dfloc.report.answer import answer
from dfloc.report.build import by_protocol, write
from dfloc.report.find import records
from dfloc.report.groups import Study
from dfloc.report.page import style
from dfloc.report.results import Results
from dfloc.report.table import escape
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

SYNTHETIC = "random weights: path only, numbers mean nothing"
BUILT_IN = "built-in data: the numbers say nothing about Dolos"
HEADS = ("Study", "Sweep", "State", "Headline", "Files")


@dataclass(frozen=True)
class Entry:
    """One row of the page.

    Attributes:
        mark: what must be known of its numbers; empty where nothing.
        headlines: what it answers, sentence by sentence.
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
    storage.put(page, _html(entries, failed).encode())
    return page, failed


def entry(study: Study) -> Entry:
    """Return what the page says of a study."""
    mark = SYNTHETIC if study.path_only else BUILT_IN if study.built_in else ""
    return Entry(study.record, overview.state_line(study), mark, list(answer(study).sentences.values()))


def _html(entries: Sequence[Entry], failed: Mapping[str, str]) -> str:
    rows = "\n".join(_row(each) for each in entries)
    heads = "".join(f"<th class=words scope=col>{head}</th>" for head in HEADS)
    table = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>'
    lost = [f'<p class="bad">The report of {escape(name)} failed: {escape(why)}</p>' for name, why in failed.items()]
    empty = "<p>No sweep has been planned in this workspace: <code>dfloc sweep exposure</code> plans one.</p>"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>dfloc: all studies</title><style>{style()}</style></head><body>",
            f"<header><h1>All studies</h1><p>{len(entries)} sweeps of this workspace. Models are chosen by validation; "
            "each page has the intervals, and what may be compared with what.</p></header>",
            f'<figure class="table index">{table if entries or lost else empty}</figure>',
            *lost,
            "</body></html>",
            "",
        ]
    )


def _row(each: Entry) -> str:
    record = each.record
    folder = escape(record.sweep)
    limit = f", limit {record.limit}" if record.limit is not None else ""
    how = f"preset {record.preset}, data {record.data}{limit}, {record.protocol}"
    mark = f'<small class="bad">{escape(each.mark)}</small>' if each.mark else ""
    headlines = "".join(f"<div>{escape(line)}</div>" for line in each.headlines) or "-"
    cells = [
        f'<a href="{folder}/index.html"><b>{escape(record.name)}</b></a><small>{escape(record.title)}</small>',
        f"{folder}<small>{escape(how)}</small>",
        f"{escape(each.state)}{mark}",
        headlines,
        f'<a href="{folder}/report.md">Markdown</a> <a href="{folder}/evaluations.csv">CSV</a>',
    ]
    return "<tr>" + "".join(f'<td class="words">{cell}</td>' for cell in cells) + "</tr>"
