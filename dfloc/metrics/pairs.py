"""Numbers of fakes and reals together, from the rows of each."""

from collections.abc import Mapping

import pyarrow as pa

from dfloc.errors import DataError
from dfloc.metrics import image_rows, protocols
from dfloc.metrics.sets import check, summarise
from dfloc.metrics.table import Table


def summarise_pair(fakes: Table, reals: Table | None, protocol: str, valid: Table | None = None) -> dict[str, float]:
    """Summarise the rows of fakes together with those of reals.

    Args:
        fakes: of one domain; of several where they are looked at together (all classes of an attribution, say).
        reals: None, or no row: there are none.
        protocol: its name.
        valid: rows of the trial's validation list, fakes and reals, by the same checkpoint, where there are any.

    Returns:
        What the protocol says of a pair (`Protocol.of_pair`), and of one of images its means that are `of_pair`: half
        their sum over both. What it says of the fakes alone is in `summarise`. Empty without reals.

    Raises:
        DataError: no fake, a row is of another protocol or on the wrong side, a column is missing, or a value is none.
    """
    rule = protocols.find(protocol)
    check(fakes, protocol)
    if reals is None or len(reals) == 0:
        return {}
    check(reals, protocol)
    _refuse_wrong_side(fakes, reals)
    if valid is not None and len(valid):
        check(valid, protocol)
    found = rule.of_pair(fakes, reals, valid)
    if rule.of_images:
        sides = [rule.of_images(rows) for rows in (fakes, reals)]
        found |= {
            key: float(sides[0][key].mean() + sides[1][key].mean()) / 2
            for key, metric in rule.per_image.items()
            if metric.of_pair
        }
    return found


def by_domain(tables: Mapping[str, Table], protocol: str, valid: Table | None = None) -> dict[str, dict[str, float]]:
    """Summarise the rows of several domains, each of fakes beside the reals of its source where these are among them.

    Args:
        tables: by domain, in full; `<source>/real` are the reals.
        protocol: its name.
        valid: as in `summarise` and `summarise_pair`.

    Raises:
        DataError: as these.
    """
    return {
        domain: summarise(rows, protocol, valid)
        | (summarise_pair(rows, tables.get(real), protocol, valid) if domain != (real := reals_of(domain)) else {})
        for domain, rows in tables.items()
    }


def together(tables: Mapping[str, pa.Table], protocol: str, valid: pa.Table | None = None) -> dict[str, float]:
    """Summarise the fakes of all domains together beside all reals: of an attribution, every class.

    Args:
        tables: as in `by_domain`.
        protocol: its name; of one of maps there is nothing to say.
        valid: as in `summarise_pair`.

    Returns:
        As `summarise_pair`; empty without fakes, or without reals.

    Raises:
        DataError: as there.
    """
    sides = [
        [rows for domain, rows in tables.items() if (domain == reals_of(domain)) is real] for real in (False, True)
    ]
    if not all(sides) or protocols.find(protocol).reads == "map":
        return {}
    fakes, reals = (pa.concat_tables(side, promote_options="permissive") for side in sides)
    return summarise_pair(fakes, reals, protocol, valid)


def reals_of(domain: str) -> str:
    """Return the domain of the reals of a domain's source."""
    return f"{domain.partition('/')[0]}/{image_rows.REAL}"


def _refuse_wrong_side(fakes: Table, reals: Table) -> None:
    for rows, expected in ((fakes, "fakes"), (reals, "reals")):
        is_real = image_rows.is_real(rows)
        wrong = is_real if expected == "fakes" else ~is_real
        if wrong.any():
            name = f"row {int(wrong.argmax())}"
            raise DataError(f"expected rows of {expected} alone, {name} of them is not; give fakes first, then reals")
