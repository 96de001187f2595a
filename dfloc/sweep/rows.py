"""Every row of a trial: what each of its evaluations says of each image."""

import pyarrow as pa

from dfloc.errors import WorkspaceError
from dfloc.ledger import Ledger


def table(ledger: Ledger, fingerprint: str) -> pa.Table:
    """Return all rows of a trial, of every protocol; what a protocol does not have is null in its rows.

    Raises:
        WorkspaceError: it was never evaluated, or rows are damaged.
    """
    found = list(ledger.all_rows(fingerprint))
    if not found:
        raise WorkspaceError(
            f"trial {fingerprint[:12]} has no rows: it was not evaluated; let its sweep end, or, where it is finished, "
            f"score it: dfloc evaluate {fingerprint[:12]} --data DIR. What a search has stopped early has none"
        )
    return pa.concat_tables(found, promote_options="permissive")
