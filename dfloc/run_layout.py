"""What a trial's run holds, by a number; params and metrics cannot be taken back, so an older run is made again."""

from collections.abc import Sequence
from typing import Any

from dfloc.tracking_store import Store

NUMBER = 3  # raised when the names or meanings of params, metrics or tags change
TAG = "dfloc.layout"


def tags() -> dict[str, str]:
    """Return the tags that tell a run of this layout."""
    return {TAG: str(NUMBER)}


def is_of_today(run: Any) -> bool:
    """Return whether a run is of this layout."""
    return bool(run.data.tags.get(TAG) == tags()[TAG])


def by_tag(store: Store, tag: str, runs: Sequence[Any]) -> dict[str, Any]:
    """Return the run of each value of a tag; one is deleted that was about to be when its driver died."""
    found: dict[str, Any] = {}
    for run in sorted((run for run in runs if tag in run.data.tags), key=is_of_today):
        before = found.get(run.data.tags[tag])
        if before and is_of_today(run) and not is_of_today(before):
            store.delete(before.info.run_id)
        found[run.data.tags[tag]] = run
    return found
