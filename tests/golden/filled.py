"""Rows and ledgers of trials that were only planned: every number follows from spec, image and nothing else."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from dfloc.config import EvaluationSpec, TrialSpec
from dfloc.data import dolos
from dfloc.engine import labels, route
from dfloc.errors import WorkspaceError
from dfloc.frozen import canonical
from dfloc.ledger import EpochRecord, Ledger, Stopped
from dfloc.measures import MEASURED
from dfloc.metrics import protocols
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace, json_bytes
from tests.metrics.image_rows import attributed, detected

PIXELS = 256 * 256
IMAGES = (40, 25, 32, 16)  # of a list, by its domain
KEPT = 50  # one in so many of a training list's ids is put into the workspace
VERSIONS = ({"dfloc": "0.1.0", "torch": "2.14.1", "device": "cpu"}, {"dfloc": "0.1.1", "torch": "2.14.1"})
SCORED = ("empty", "all fake", "empty on one domain", "best alone")
"""What becomes of a trial besides being finished and right; its best epoch is scored on all domains."""
HOLES = ("failed", "new", "partial", "one domain", *SCORED)
"""The same, and what leaves holes."""
SOLVED: Mapping[str, float] = {"mean-mask": 0.24, "threshold": 0.29}


class Filled:
    """A workspace in which the trials of a record have run, more or less.

    Args:
        workspace: an empty one.
        fates: what becomes of some trials.
        one_in: for each fate, one in so many trials meets it.
        last: of so many trials, one has its last epoch evaluated too.
    """

    def __init__(self, workspace: Workspace, fates: Sequence[str] = HOLES, one_in: int = 90, last: int = 1):
        self._workspace, self._ledger = workspace, Ledger(workspace)
        self._possible, self._one_in, self._last = fates, one_in, last
        self._names: dict[str, str] = {}
        self._fates: dict[str, str] = {}

    def fill(self, record: SweepRecord) -> None:
        """Write what its trials leave behind; one that was filled before stays as it is."""
        for trial in record.trials:
            if trial.fingerprint not in self._names:
                self._names[trial.fingerprint] = self._name(trial)
                self._fates[trial.fingerprint] = self._fate(trial)
                self._fill(record, trial)

    def _name(self, trial: PlannedTrial) -> str:
        """Return what tells trials apart but for digests, which other data would change."""
        spec = trial.spec.model_dump(mode="json", exclude_defaults=True, exclude={"train", "valid", "init", "lineage"})
        parent = "".join(self._names.get(name, "") for name in trial.parents)
        counts = [trial.spec.train.counts, trial.spec.valid.counts, trial.spec.train.asked.get("replay") is not None]
        return f"{seed(canonical([spec, counts, parent, trial.axes['draw']])):016x}"

    def _fate(self, trial: PlannedTrial) -> str:
        if {self._fates.get(parent) for parent in trial.parents} & {"failed", "new", "partial"}:
            return "new"
        if trial.spec.decoder.name == "all-fake":
            return "all fake"
        place = seed("fate", self._names[trial.fingerprint]) % self._one_in
        return self._possible[place] if place < len(self._possible) else ""

    def _fill(self, record: SweepRecord, trial: PlannedTrial) -> None:
        name, fate = self._names[trial.fingerprint], self._fates[trial.fingerprint]
        self._keep(trial.spec.valid.digest, trial.spec.valid.counts, "valid", 1)
        self._keep(trial.spec.train.digest, trial.spec.train.counts, "train", KEPT)
        if fate == "new":
            return
        attempt = self._ledger.begin(trial.spec)
        if trial.spec.parts:
            attempt.finish(b"", b"", 0, VERSIONS[0])
            self._compose(trial, name)
            return
        if fate == "failed":
            attempt.fail("nan", f"the loss is NaN at step {seed(name) % 90}", epoch=1, step=seed(name) % 90)
            return
        epochs = _epochs(trial.spec, name)
        if fate == "partial":
            attempt.save_epoch(b"state", epochs[:1])
            return
        if record.search and trial.stage == record.search.stage and seed("rung", name) % 3:
            cut = record.search.rungs[0]
            attempt.save_epoch(b"state", epochs[:cut])
            value = max(epoch.valid["iou"] for epoch in epochs[:cut])
            self._ledger.stop(trial.fingerprint, record.sweep, Stopped(epoch=cut, value=value, needed=0.7, time=0))
            return
        attempt.save_epoch(b"state", epochs)
        best = max(epochs, key=lambda epoch: epoch.valid[MEASURED[trial.spec.task][0]]).epoch
        attempt.finish(b"best", b"last", best, VERSIONS[seed("version", name) % 20 == 0])
        self._evaluate(trial, name, fate)

    def _evaluate(self, trial: PlannedTrial, name: str, fate: str) -> None:
        tests = dict.fromkeys(each.domain for each in trial.evaluations if each.split == "test")
        lone = [*tests][seed("domain", name) % len(tests)] if tests else ""
        has_last = fate != "best alone" and seed("last", name) % self._last == 0
        for each in trial.evaluations:
            if (fate == "one domain" and each.domain == lone) or (each.checkpoint == "last" and not has_last):
                continue
            maps = fate if fate in ("empty", "all fake") else ""
            if fate == "empty on one domain" and each.domain == lone:
                maps = "empty"
            made = rows if trial.spec.task == "localize" else mapped_rows if _has_maps(each) else image_rows
            self._ledger.put_rows(trial.fingerprint, each.key, made(each, trial.spec, name, maps))

    def _compose(self, trial: PlannedTrial, name: str) -> None:
        """Put a composite's rows: the join of those that its parts have, or rows as of any trial for a mean."""
        router = trial.spec.parts.get("route")
        parts = {role: part.parent for role, part in trial.spec.parts.items() if role != "route"}
        for each in trial.evaluations:
            there = all(self._ledger.has_rows(part, route.of_part(each, part).key) for part in parts.values())
            if router is None:
                self._ledger.put_rows(trial.fingerprint, each.key, rows(each, trial.spec, name))
            elif there:
                tables = {role: route.rows_of(self._ledger, part, each) for role, part in parts.items()}
                try:
                    calls = route.routers(self._ledger, router.parent, each)
                except WorkspaceError:  # its last epoch was not evaluated
                    continue
                nothing = partial(_nothing, next(iter(tables.values())))
                self._ledger.put_rows(trial.fingerprint, each.key, route.join(each, calls, tables, nothing))

    def _keep(self, digest: str, counts: Mapping[str, int], split: str, one_in: int) -> None:
        """Put a list of samples, as ids alone: nobody has the images that its digest is over."""
        path = self._workspace.lists / f"{digest}.json"
        if not path.exists():
            names = [
                sample
                for domain, count in counts.items()
                for sample in ids(domain, split, -(-count // one_in) if split == "train" else num_images(domain))
            ]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(json_bytes(sorted(names)))


def smaller(record: SweepRecord) -> SweepRecord:
    """Return a record whose lists to be scored have few images."""
    return record.model_copy(update={"trials": tuple(_smaller(trial) for trial in record.trials)})


def _smaller(trial: PlannedTrial) -> PlannedTrial:
    found = []
    for each in trial.evaluations:
        test = each.test.model_copy(update={"counts": {each.domain: num_images(each.domain)}})
        found.append(each.model_copy(update={"test": test}))
    return trial.model_copy(update={"evaluations": tuple(found)})


def num_images(domain: str) -> int:
    """Return how many images a list of a domain has."""
    return IMAGES[seed("images", domain) % len(IMAGES)]


@cache
def ids(domain: str, split: str, count: int) -> tuple[str, ...]:
    """Return the names of images: some are of one photograph, most photographs are shared with other domains."""
    names = []
    for place in range(count):
        photograph = seed("photograph", split, domain if place % 3 == 0 else "", place // 2) % 900
        names.append(f"{domain}/{split}/{photograph:03d}-{place}.png")
    return tuple(names)


def rows(each: EvaluationSpec, spec: TrialSpec, name: str, maps: str = "") -> pa.Table:
    """Return the rows of an evaluation, their numbers in line with one another.

    Args:
        each: the evaluation.
        spec: of the trial.
        name: what tells the trial from others.
        maps: how its maps are degenerate: empty | all fake; as they should be where it is empty.
    """
    names = ids(each.domain, each.split, each.test.size)
    stems = [f"{each.domain.split('/')[0]}/{one.split('/')[3].split('-')[0]}" for one in names]
    real = spec.task == "localize" and dolos.is_real(each.domain)
    fake = np.asarray([0 if real else _fake(one) for one in names])
    share = np.asarray([_overlap(each, spec, name, *both) for both in zip(names, stems, strict=True)])
    missed = 0.2 + 0.6 * unit("missed", name)
    fn = np.round(fake * (1 - share) * missed).astype(np.int64)
    tp = fake - fn
    fp = np.where(fake > 0, np.round(tp / share) - fake, np.round(300 * share - 150)).astype(np.int64)
    if real:
        fp = np.asarray([500 * (unit("alarm", one, name) < 0.35) for one in names])
    fp = np.clip(fp, 0, PIXELS - fake)
    if maps == "empty":
        tp, fp, fn = np.zeros_like(fake), np.zeros_like(fake), fake
    elif maps == "all fake":
        tp, fp, fn = fake, PIXELS - fake, np.zeros_like(fake)
    draws = np.random.default_rng(seed("draws", each.checkpoint, name, each.domain, each.split)).random((3, len(names)))
    measures = _measures(each.protocol, tp, fp, fn, draws, maps)
    return pa.table(
        {
            "id": names,
            "stem": stems,
            **{
                key: [getattr(each, key)] * len(names)
                for key in ("domain", "split", "condition", "protocol", "checkpoint", "trial")
            },
            "mask_area": fake / PIXELS,
            **{"tp": tp, "fp": fp, "fn": fn, "tn": PIXELS - tp - fp - fn},
            "mean_prob": draws[0],
            **measures,
            **_on_grid(each.protocol, tp, fp, fake),
        }
    )


def _nothing(table: pa.Table, places: Sequence[int]) -> pa.Table:
    """Return the rows of an empty map on the images of others."""
    found = table.take(places)
    fake = np.asarray(found["tp"]) + np.asarray(found["fn"])
    none, real = np.zeros_like(fake), (fake == 0).astype(float)
    new = {"tp": none, "fp": none, "fn": fake, "tn": PIXELS - fake, "mean_prob": none.astype(float), "iou": real}
    for key, values in new.items():
        found = found.set_column(found.column_names.index(key), key, pa.array(values))
    return found


def image_rows(each: EvaluationSpec, spec: TrialSpec, name: str, calls: str = "") -> pa.Table:
    """Return the rows of an evaluation of images as a whole; where it is explained with the numbers of maps.

    Args:
        each: the evaluation.
        spec: of the trial.
        name: what tells the trial from others.
        calls: how it is degenerate: empty (all real) | all fake.
    """
    names = ids(each.domain, each.split, each.test.size)
    stems = [f"{each.domain.split('/')[0]}/{one.split('/')[3].split('-')[0]}" for one in names]
    classes, kind = labels.classes(spec), "real" if dolos.is_real(each.domain) else dolos.family(each.domain, {})
    own = classes.index(kind if kind in classes else "fake" if spec.task == "detect" else "real")
    parted = 5 * skill(spec, name, each.domain) - 1
    logit_NK = [
        [
            parted * (place == own) + 4 * (unit("logit", one, place, name, each.checkpoint) - 0.5)
            for place in range(len(classes))
        ]
        for one in names
    ]
    if calls or spec.decoder.name == "prior":
        logit_NK = [[2.0 * (place == (calls == "all fake")) for place in range(len(classes))]] * len(names)
    prob_NK = np.exp(logit_NK) / np.exp(logit_NK).sum(1, keepdims=True)
    if spec.task == "detect":
        found = detected(each.protocol, each.domain, prob_NK[:, 1].tolist(), stems=stems)
    else:
        found = attributed(each.protocol, each.domain, kind, dict(zip(classes, prob_NK.T, strict=True)), stems)
    told = {"id": list(names), **{key: [getattr(each, key)] * len(names) for key in ("split", "checkpoint", "trial")}}
    if each.explain:
        maps = rows(each.model_copy(update={"protocol": "dfloc-1"}), spec, name)
        told |= {key: maps[key].to_pylist() for key in ("tp", "fp", "fn", "tn", "mask_area", "mean_prob")}
        told |= {"spread": [0.9] * len(names), "explain": [each.explain.called] * len(names)}
        told |= {key: [unit(key, one, name) for one in names] for key in ("pointed", "mass_inside")}
        told["pointed"] = [float(value < 0.5) for value in told["pointed"]]
    for key, values in told.items():
        found = found.drop_columns(key) if key in found.column_names else found
        found = found.append_column(key, pa.array(values))
    return found


def _has_maps(each: EvaluationSpec) -> bool:
    """Return whether a protocol measures maps, of a model that calls images too."""
    return protocols.find(each.protocol).reads == "map"


def mapped_rows(each: EvaluationSpec, spec: TrialSpec, name: str, calls: str = "") -> pa.Table:
    """Return the rows of a protocol of maps of a model that calls images too: its own maps, or explanations."""
    found = rows(each, spec.model_copy(update={"task": "localize"}), name, calls)
    more = image_rows(each.model_copy(update={"protocol": "image-1"}), spec, name, calls)
    for key in (key for key in more.column_names if key not in found.column_names):
        found = found.append_column(key, more[key])
    return found


def _overlap(each: EvaluationSpec, spec: TrialSpec, name: str, image: str, stem: str) -> float:
    """Return the share of a map's pixels and the truth's that both have: of the trial, the photograph, the image."""
    late = 0.02 * unit("late", name, each.domain) if each.checkpoint == "last" else 0.0
    noise = 0.2 * (unit("stem", stem) - 0.5) + 0.16 * (unit("image", image, name) - 0.5)
    own = 0.08 * (unit("stem", stem, name) - 0.5)
    return min(0.98, max(0.02, skill(spec, name, each.domain) - late + noise + own))


def skill(spec: TrialSpec, name: str, domain: str) -> float:
    """Return how well a trial does on a domain: by what it saw, by its parts, and by chance."""
    if spec.decoder.name == "prior":
        return 0.2
    if spec.decoder.name in SOLVED:
        return SOLVED[spec.decoder.name]
    counts, base = spec.train.counts, spec.lineage.base
    seen = counts.get(domain, 0) / max(counts.values())
    if domain in counts:
        images = counts[domain] if base and domain not in base else max(counts.values()) * seen
        level = 0.46 + 0.07 * math.log10(1 + images) - 0.02 * len(counts)
    else:
        level = 0.36 if domain in base else 0.22
    parts = canonical([[recipe.map for recipe in spec.maps], spec.decoder.depth, spec.loss.name, spec.decoder.encoder])
    level += 0.08 * (unit("parts", parts) - 0.5) + 0.05 * (unit("domain", domain) - 0.5)
    level += 0.03 * (spec.augment is not None) - 0.04 * any(one.via is not None for one in spec.maps[:1])
    return level + 0.05 * (unit("trial", name) - 0.5) + 0.04 * (unit("trial", name, domain) - 0.5)


def _epochs(spec: TrialSpec, name: str) -> list[EpochRecord]:
    valid = sum(skill(spec, name, domain) for domain in spec.valid.counts) / len(spec.valid.counts)
    return [
        EpochRecord(
            epoch=number,
            steps=spec.steps * number // 4,
            images=spec.train.size,
            lr=1e-3,
            train_loss=0.7 - 0.1 * number * unit("loss", name),
            valid={
                "loss": 0.8 - 0.1 * number * unit("loss", name),
                **dict.fromkeys(
                    ("iou",) if spec.task == "localize" else ("ap", "accuracy"),
                    valid - 0.02 * abs(number - 3) + 0.03 * unit("valid", number, name),
                ),
            },
            seconds=10 + unit("seconds", number, name),
            time=1e9 + number,
        )
        for number in range(1, 5)
    ]


def _measures(
    protocol: str, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, draws: np.ndarray, maps: str
) -> dict[str, np.ndarray]:
    """Return the protocol's numbers, NaN where it has them: no best threshold of a constant map, nothing to rank."""
    fake, union = tp + fn, tp + fp + fn
    f1 = np.where(union > 0, 2 * tp / np.maximum(1, union + tp), 1.0)
    undefined = np.nan if protocol == "dfloc-1" else 0.0
    ap = np.where(fake > 0, fake / PIXELS if maps else np.minimum(0.99, f1 + 0.1 * draws[0]), undefined)
    best = np.minimum(1.0, f1 + 0.05 + 0.1 * draws[1])
    measures = {
        "iou": np.where(union > 0, tp / np.maximum(1, union), 1.0),
        "f1": f1,
        "f1_fixed": f1,
        "f1_best": np.full(len(tp), np.nan) if maps else np.where(draws[2] < 0.04, np.nan, best),
        "ap": ap,
        "auc": np.where(fake > 0, 0.5 if maps else 0.5 + 0.5 * ap, np.nan),
        "mcc": np.zeros(len(tp)) if maps else 0.9 * f1 - 0.05 * draws[2],
        "pbca": (PIXELS - fp - fn) / PIXELS,
    }
    return {key: measures[key] for key in protocols.find(protocol).per_image}


def _on_grid(protocol: str, tp: np.ndarray, fp: np.ndarray, fake: np.ndarray) -> dict[str, Any]:
    """Return what the rows count at each threshold of the protocol's grid: fewer pixels at a higher one."""
    grid = np.asarray(protocols.find(protocol).grid)
    if not len(grid):
        return {}
    found = np.minimum(fake[:, None], tp[:, None] * 2 * (1 - grid)).astype(np.int64)
    false = np.minimum(PIXELS - fake[:, None], fp[:, None] * 4 * (1 - grid) ** 2).astype(np.int64)
    return {"grid_tp": found.tolist(), "grid_fp": false.tolist()}


def _fake(image: str) -> int:
    """Return the fake pixels of an image's truth; one in thirty has none."""
    return 0 if seed("none", image) % 30 == 0 else int(PIXELS * (0.02 + 0.6 * unit("area", image) ** 2))


def seed(*parts: object) -> int:
    """Return a number that follows from the text of some parts alone."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts, default=str).encode()).digest()[:8], "big")


@cache
def unit(*parts: object) -> float:
    """Return a number in [0, 1) that follows from the text of some parts alone."""
    return seed(*parts) / 2**64
