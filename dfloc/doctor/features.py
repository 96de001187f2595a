"""Stored features against their receipts."""

from collections.abc import Iterator, Mapping
from functools import partial

from upath import UPath

from dfloc import storage
from dfloc.doctor.finding import Check, Finding
from dfloc.errors import WorkspaceError
from dfloc.features.store import TRUTH, FeatureStore, Receipt
from dfloc.storage import Workspace


def checks(workspace: Workspace, maps: Mapping[str, str]) -> Iterator[Check]:
    """Yield a check for each group of features.

    Args:
        workspace: whose.
        maps: fingerprint of a recipe -> its map, where some trial tells it.
    """
    store = FeatureStore(workspace.features)
    names = {**maps, TRUTH.fingerprint: TRUTH.map}
    for path in store.files():
        name = names.get(path.parts[-4], "a map that no sweep names")
        yield Check("features", path, partial(_look, store, path, name))


def _look(store: FeatureStore, path: UPath, name: str) -> Iterator[Finding]:
    state = store.state(path, afresh=True)
    receipt = path.with_suffix(".json")
    if state == "missing" and path.exists():
        yield Finding("scratch", path, "has no receipt: it was only begun", remove=(path,), state="left over")
    if state != "damaged":
        return
    wrong = "is not what its receipt says" if path.exists() else "is gone, its receipt is there"
    try:
        images = f"{len(storage.get_model(Receipt, receipt).ids)} images"
    except (WorkspaceError, FileNotFoundError):
        wrong, images = "has a receipt that is damaged", "the images of its row group"
    how = "read from their masks" if name == TRUTH.map else f"through {name.partition('/')[0]}"
    yield Finding(
        "features",
        path,
        f"({name}) {wrong}",
        f"made again by the next sweep or evaluation that reads it: {images} {how}",
        (receipt, path),
    )
