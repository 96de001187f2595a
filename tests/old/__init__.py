"""A small workspace of 40e56a3, and its sweep as it is planned now."""

import tarfile
from pathlib import Path

from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Plan
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from tests.old.make import HERE, SETTINGS


def unpacked(root: Path) -> Workspace:
    """Unpack it into a new folder."""
    with tarfile.open(HERE / "workspace.tar.xz") as archive:
        archive.extractall(root, filter="data")
    return Workspace(root)


SINCE = ("evaluate.reals=[]",)  # reals are scored by default since
STAGES = ("base", "finetune", "budgets", "scratch", "equal-total", "replay", "baselines")


def planned(workspace: Workspace) -> Plan:
    """Plan its sweep again, without the stages and test lists that the study has got since."""
    data = str(workspace.shards / "tree")
    options = SweepRequest(
        "exposure", str(workspace.root), data, preset="smoke", settings=(*SETTINGS, *SINCE), only=STAGES
    )
    return prepare(options, workspace, data_of(options, workspace), Inventory(workspace)).plan
