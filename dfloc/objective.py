"""What a search is told of a trial, and of a point of several trials: its state, and its objective."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from dfloc.ledger import Ledger


class Standing(NamedTuple):
    """Where a trial or a point stands.

    Attributes:
        state: done | stopped (early, as one of the worse) | failed (for a cause of its own) | open (still to end).
        value: validation IoU of the best epoch; of what was stopped that of the best until then; None: it has none.
        epochs: after which it has ended.
    """

    state: Literal["done", "stopped", "failed", "open"]
    value: float | None = None
    epochs: int = 0


def of_trial(ledger: Ledger, fingerprint: str, sweep: str) -> Standing:
    """Return where a trial stands in the search of a sweep."""
    state = ledger.state(fingerprint, sweep)
    if state == "done" and (done := ledger.done(fingerprint)):
        records = ledger.epochs(fingerprint)
        value = next((one.worth for one in records if one.epoch == done.best_epoch), None)
        return Standing("done", value, len(records))
    if state == "stopped" and (stopped := ledger.stopped(fingerprint, sweep)):
        return Standing("stopped", stopped.value, stopped.epoch)
    return Standing("failed" if state == "failed" else "open")


def of_point(trials: Sequence[Standing]) -> Standing:
    """Return where a point stands: it is over as soon as one of its trials has failed or was stopped.

    Its value is the mean of its trials', and none where one of them has none: a mean over other folds is another
    quantity.
    """
    states, values = {one.state for one in trials}, [one.value for one in trials if one.value is not None]
    value = sum(values) / len(values) if len(values) == len(trials) else None
    epochs = sum(one.epochs for one in trials)
    if "failed" in states:
        return Standing("failed")
    if "stopped" in states:
        return Standing("stopped", value, epochs)
    return Standing("done", value, epochs) if states == {"done"} and value is not None else Standing("open")
