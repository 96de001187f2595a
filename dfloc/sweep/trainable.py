"""The Tune side of a pack: items of work run one after the other, an entry for each in every report."""

from typing import Any

from ray import tune

from dfloc import disk, storage
from dfloc.errors import DiskFullError
from dfloc.sweep.work import run, works


def train_pack(config: dict[str, Any]) -> None:
    """Train and evaluate the items of a pack; a Tune function trainable.

    The worker writes its own files into the workspace; what is reported is for scheduling and progress alone:
    `{"pack": {fingerprint: {"epoch", "epochs", "goes_on", "valid_iou", "finished", "failed", "full"}}}`.
    A full disk is reported, for what is raised is tried again.
    """
    for work in works(config):
        spec = work.spec
        try:
            with disk.room(storage.local(work.workspace.root)):
                for progress in run(work):
                    tune.report({"pack": {spec.fingerprint: progress}})
        except DiskFullError as full:
            ended = {"epoch": 0, "epochs": spec.epochs, "full": full.args}
            tune.report({"pack": {spec.fingerprint: ended}})
            return
