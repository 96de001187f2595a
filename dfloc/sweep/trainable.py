"""The Tune side of a pack: items of work run one after the other, an entry for each in every report."""

from collections.abc import Sequence
from typing import Any

from ray import tune
from upath import UPath

from dfloc import disk, plugin, registry, storage
from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.errors import DiskFullError
from dfloc.plugin import Plugin
from dfloc.proof import Proof
from dfloc.storage import Workspace
from dfloc.sweep.plan import Item
from dfloc.sweep.work import Work, run


def config_of(pack: Sequence[Item], *, workspace: str, data: str, device: str, proof: Proof) -> dict[str, Any]:
    """Return what the Tune trial of a pack is told: plain values, so that any worker can read them."""
    items = [
        {
            "fingerprint": item.trial.fingerprint,
            "spec": item.trial.spec.model_dump(mode="json"),
            "train": item.train,
            "evaluations": [evaluation.model_dump(mode="json") for evaluation in item.evaluations],
        }
        for item in pack
    ]
    plugins = [tuple(one) for one in registry.plugins()]
    told = {"workspace": workspace, "data": data, "device": device, "proof": tuple(proof)}
    return {**told, "plugins": plugins, "items": items}


def train_pack(config: dict[str, Any]) -> None:
    """Train and evaluate the items of a pack; a Tune function trainable.

    The worker writes its own files into the workspace; what is reported is for scheduling and progress alone:
    `{"pack": {fingerprint: {"epoch", "epochs", "goes_on", "valid_iou", "finished", "failed", "full"}}}`.
    A full disk is reported, for what is raised is tried again.
    """
    Proof(*config["proof"]).check()
    plugin.use([Plugin(*told) for told in config["plugins"]])
    workspace = Workspace(config["workspace"])
    for told in config["items"]:
        spec = TrialSpec.model_validate(told["spec"])
        assert spec.fingerprint == told["fingerprint"], "driver and worker run different versions of dfloc"
        evaluations = tuple(EvaluationSpec.model_validate(evaluation) for evaluation in told["evaluations"])
        work = Work(spec, told["train"], evaluations, workspace, UPath(config["data"]), config["device"])
        try:
            with disk.room(storage.local(workspace.root)):
                for progress in run(work):
                    tune.report({"pack": {spec.fingerprint: progress}})
        except DiskFullError as full:
            ended = {"epoch": 0, "epochs": spec.epochs, "full": full.args}
            tune.report({"pack": {spec.fingerprint: ended}})
            return
