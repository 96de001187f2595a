"""Stored features against their receipts."""

import re
import time
from collections.abc import Iterator, Mapping
from functools import partial

from upath import UPath

from dfloc import storage
from dfloc.doctor.finding import GRACE_SECONDS, Check, Finding
from dfloc.errors import WorkspaceError
from dfloc.features.store import TRUTH, FeatureStore, GroupReceipt
from dfloc.storage import Workspace

_GROUP = re.compile(r"[0-9a-f]{64}/[^/]+/[0-9a-f]{64}/\d+")


def checks(workspace: Workspace, maps: Mapping[str, str], driven: bool = False) -> Iterator[Check]:
    """Yield a check for each group of features.

    Args:
        workspace: whose.
        maps: fingerprint of a recipe -> its map, where some trial tells it.
        driven: a driver runs, which may be writing them.
    """
    store = FeatureStore(workspace.features)
    names = {**maps, TRUTH.fingerprint: TRUTH.map}
    for path in store.files():
        if not _GROUP.fullmatch("/".join(path.with_suffix("").parts[-4:])):
            continue
        name = names.get(path.parts[-4], "a map that no sweep names")
        yield Check("features", path, partial(_look, store, path, name, driven))


def _look(store: FeatureStore, path: UPath, name: str, driven: bool) -> Iterator[Finding]:
    state = store.state(path, afresh=True)
    if state == "damaged" and driven:  # it may be made again at this moment
        time.sleep(GRACE_SECONDS)
        state = store.state(path, afresh=True)
    receipt = path.with_suffix(".json")
    if state == "missing" and not driven and (path.exists() or path.is_symlink() or receipt.is_symlink()):
        yield Finding("scratch", path, "has no receipt: it was only begun", remove=(receipt, path), state="left over")
    if state == "whole" and not _tells_place(receipt):
        yield Finding("features", path, "has a receipt that does not say whose it is", state="unverifiable")
    if state != "damaged":
        return
    wrong = "is not what its receipt says" if path.exists() else "is gone, its receipt is there"
    try:
        images = f"{len(storage.get_model(GroupReceipt, receipt).ids)} images"
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


def _tells_place(receipt: UPath) -> bool:
    try:
        return storage.is_sealed(receipt) and bool(storage.get_model(GroupReceipt, receipt).place)
    except FileNotFoundError:  # it is being made again
        return True
