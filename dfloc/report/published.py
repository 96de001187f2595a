"""Published numbers: their values, how far each may be trusted, and what a trial must match to be compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dfloc.errors import ConfigError, unknown

SHIPPED = Path(__file__).with_name("published.yaml")

KINDS: Mapping[str, str] = {"nb": "Author's notebook", "derived": "Derived from the author's notebook"}
DERIVED = "derived"
PIPELINES = ("pipeline", "test_domain")  # axes of tables of composites: they stand in a table of their own

_Index = tuple[str | int, str | int]


@dataclass(frozen=True)
class PublishedNumber:
    """One published number.

    Attributes:
        table: id of its table.
        row: name of its row; a domain is written in full.
        col: name or number of its column; a domain is written in full.
        value: a fraction where the document prints per cent, else as printed.
        status: ok | suspect | mixed_config | ambiguous_axes | derived; a difference is computed for ok alone.
        reason: why it is not ok; empty where it is.
        requires: what a trial must match, with what the row, the column and its method add or replace.
    """

    table: str
    row: str | int
    col: str | int
    value: float
    status: str
    reason: str
    requires: Mapping[str, Any]


@dataclass(frozen=True)
class PublishedTable:
    """One published table.

    Attributes:
        held_out: full name of the domain that an exposure table fine-tunes on; empty for other tables.
        unit: as the document prints it: percent | fraction | another word.
        aggregate: which images its numbers are the mean of, in words; empty where its source does not say.
        comparable: whether protocol and main settings are known, so that a difference may be printed.
        cells: by (row, column); a dash of the document has none.
    """

    id: str
    cite: str
    where: str
    metric: Any
    unit: str
    protocol: str
    aggregate: str
    comparable: bool
    held_out: str
    rows_axis: str
    cols_axis: str
    cells: Mapping[_Index, PublishedNumber]

    @property
    def axes(self) -> tuple[str, str]:
        """What its rows and columns are."""
        return self.rows_axis, self.cols_axis

    @property
    def kind(self) -> str:
        """What to call it: no document prints what the author's notebooks hold, and nobody what follows from it."""
        return KINDS.get(self.id.partition(".")[0], "Published")

    @property
    def tested(self) -> tuple[str, ...]:
        """The domains that its localizers are tested on; empty where that is not known."""
        asked = [cell.requires.get("test", ()) for cell in self.cells.values()]
        lists = [[each["localization"]] if isinstance(each, Mapping) else each for each in asked]
        return tuple(dict.fromkeys(domain for each in lists for domain in each))


@cache
def kept() -> Mapping[str, PublishedTable]:
    """Return all tables that dfloc ships, those of notebooks too, read once."""
    return load(unpublished=True)


def load(path: Path = SHIPPED, *, unpublished: bool = False) -> dict[str, PublishedTable]:
    """Read all published tables, by id.

    Args:
        path: of the file.
        unpublished: also what the author's notebooks hold or what follows from them, which no document prints.

    Raises:
        ConfigError: a table has not as many values as rows and columns, or marks a cell that it does not have.
    """
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    names, sources = content["names"], content["sources"]
    studies = [*content["studies"], *(content.get("unpublished", ()) if unpublished else ())]
    return {study["id"]: _table(study, names, sources) for study in studies}


def documents(path: Path = SHIPPED) -> dict[str, str]:
    """Return what each document is, by its name."""
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return {name: source["cite"] for name, source in content["sources"].items()}


def choose(tables: Mapping[str, PublishedTable], ids: tuple[str, ...]) -> list[PublishedTable]:
    """Return the tables that a study stands beside.

    Raises:
        ConfigError: an id that no table has.
    """
    for name in ids:
        if name not in tables:
            raise unknown("published table", name, tables)
    return [tables[name] for name in ids]


def _table(study: Mapping[str, Any], names: Mapping[str, str], sources: Mapping[str, Any]) -> PublishedTable:
    source = study["source"]
    return PublishedTable(
        id=study["id"],
        cite=sources[source["doc"]]["cite"],
        where=source["where"],
        metric=study["metric"],
        unit=study["unit"],
        protocol=study["protocol"],
        aggregate=study.get("aggregate", ""),
        comparable=study["comparable"] == "yes",
        held_out=names.get(study.get("held_out", ""), ""),
        rows_axis=study["rows_axis"],
        cols_axis=study["cols_axis"],
        cells={(cell.row, cell.col): cell for cell in _cells(study, names)},
    )


def _cells(study: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[PublishedNumber]:
    rows, cols, values = study["rows"], study["cols"], study["values"]
    marks = {(mark["row"], mark["col"]): mark for mark in study.get("cell_status", ())}
    if len(values) != len(rows) or any(len(line) != len(cols) for line in values):
        raise ConfigError(f"published table {study['id']} should have {len(rows)} x {len(cols)} values")
    if stray := marks.keys() - {(row, col) for row in rows for col in cols}:
        raise ConfigError(f"published table {study['id']} marks cells that it does not have: {sorted(stray)}")
    scale = 100 if study["unit"] == "percent" else 1
    computed = study.get("status") == DERIVED
    unmarked = {"status": DERIVED, "reason": study["source"]["where"]} if computed else {"status": "ok", "reason": ""}
    for row, line in zip(rows, values, strict=True):
        for col, value in zip(cols, line, strict=True):
            if value is None:
                continue
            mark = marks.get((row, col), unmarked)
            yield PublishedNumber(
                table=study["id"],
                row=names.get(row, row),
                col=names.get(col, col),
                value=value / scale,
                status=mark["status"],
                reason=mark["reason"],
                requires=_requires(study["requires"], row, col),
            )


def _domain(name: str, source: str) -> str:
    """Return a domain of a column's source: `SOURCE/a (celebahq: b)` is `celebahq/b`, and `ffhq/a`."""
    plain, _, other = name.replace("SOURCE", source).partition(" (")
    own, _, generator = other.rstrip(")").partition(": ")
    return f"{source}/{generator}" if own == source else plain


def _requires(requires: Mapping[str, Any], row: str | int, col: str | int) -> dict[str, Any]:
    names = {"by_row": row, "by_col": col, "by_method": str(col).rpartition("/")[2]}
    merged = {key: value for key, value in requires.items() if key not in names}
    for key, name in names.items():
        merged |= requires.get(key, {}).get(name, {})
    if isinstance(merged.get("epochs"), Mapping):
        merged["epochs"] = merged["epochs"].get(row)
    if isinstance(merged.get("train"), Mapping):  # SOURCE: that of the column, celebahq/iou
        source = str(col).partition("/")[0]
        merged["train"] = {_domain(str(name), source): count for name, count in merged["train"].items()}
    return merged
