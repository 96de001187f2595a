"""Every row of a trial: what each of its evaluations says of each image."""

from collections.abc import Iterator

import pyarrow as pa

from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.errors import WorkspaceError
from dfloc.ledger import Ledger


def table(ledger: Ledger, fingerprint: str) -> pa.Table:
    """Return all rows of a trial, of every protocol; what a protocol does not have is null in its rows.

    Raises:
        WorkspaceError: it was never evaluated, or rows are damaged.
    """
    found = list(_tables(ledger, fingerprint))
    if not found:
        raise WorkspaceError(
            f"trial {fingerprint[:12]} has no rows: it was not evaluated; let its sweep end, or, where it is finished, "
            f"score it: dfloc evaluate {fingerprint[:12]} --data DIR. What a search has stopped early has none"
        )
    return pa.concat_tables(found, promote_options="permissive")


def validated(ledger: Ledger, spec: TrialSpec, evaluation: EvaluationSpec) -> pa.Table | None:
    """Return the rows, each image once, of the same checkpoint and protocol on images that the trial may choose by.

    These are the validation images of the domains that the trial was validated on, and of any domain where that is not
    known (an imported trial). None where none were scored.

    Raises:
        WorkspaceError: rows are damaged.
    """
    domains = set(spec.valid.counts)
    found = []
    for rows in _tables(ledger, spec.fingerprint):
        first = {name: rows[name][0].as_py() for name in ("split", "domain", "checkpoint", "protocol", "condition")}
        wanted = ("valid", evaluation.checkpoint, evaluation.protocol, evaluation.condition)
        same = (first["split"], first["checkpoint"], first["protocol"], first["condition"]) == wanted
        if same and (not domains or first["domain"] in domains):
            found.append(rows)
    if not found:
        return None
    whole = pa.concat_tables(found, promote_options="permissive")
    firsts = whole.append_column("place", pa.array(range(len(whole)))).group_by("id").aggregate([("place", "min")])
    return whole.take(firsts["place_min"])


def _tables(ledger: Ledger, fingerprint: str) -> Iterator[pa.Table]:
    """Yield the rows of each evaluation that has any, in the order of their keys."""
    for path in sorted((ledger.folder(fingerprint) / "rows").glob("*.parquet"), key=lambda path: path.name):
        rows = ledger.rows(fingerprint, path.stem)
        if len(rows):
            yield rows
