from pathlib import Path

import pytest
from upath import UPath

from dfloc.features.store import FeatureStore
from dfloc.ledger import Ledger
from dfloc.storage import Workspace
from dfloc.sweep.data import Shards
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Plan, Resolved, make
from dfloc.sweep.resolve import resolve
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile

STUDY = """
name: tiny
title: A tiny study
domains: [tiny/blur, tiny/noise]
device: cpu
trial:
  maps: [srm/stats]
  decoder: {name: conv, depth: 4, channels: [4], out_size: 32}
  loss: bce
  optimizer: {name: adamw, lr: 1e-2}
  schedule: constant
  epochs: 2
  batch: 4
stages:
  base:
    grid: {held_out: "${domains}"}
    train: {domains: all_but_held_out, count: 6, valid: 2}
  finetune:
    from: base
    grid: {n: [2, 4]}
    train: {domains: held_out, count: n, valid: 2}
  baselines:
    grid: {decoder: [all-fake, mean-mask]}
    train: {domains: all, count: 6, valid: 2}
    trial: {decoder: {name: decoder}}
evaluate: {domains: "${domains}", protocol: declip-2025}
presets:
  own: {}
"""


class Planner:
    """Plans the tiny study against the tiny shards in a workspace of its own."""

    def __init__(self, folder: Path, shards: UPath):
        self.workspace = Workspace(folder / "workspace")
        self.ledger = Ledger(self.workspace)
        self.shards = shards
        self.file = folder / "tiny.yaml"
        self.file.write_text(STUDY)

    def resolve(self, *settings: str, limit: int | None = None, **how: int) -> Resolved:
        data = Shards(self.shards, "tiny")
        study = expand(SweepFile(self.file).choose("own", settings), limit=limit, data=data, **how)
        return resolve(study, data, Inventory(self.workspace), preset="own", limit=limit)

    def plan(self, *settings: str, retry_failed: bool = False, **how: int) -> Plan:
        store = FeatureStore(self.workspace.features)
        others = self.workspace.root / "sweeps"
        return make(self.resolve(*settings, **how), self.ledger, store, others, retry_failed)


@pytest.fixture
def planner(tmp_path: Path, tiny_shards: UPath) -> Planner:
    return Planner(tmp_path, tiny_shards)
