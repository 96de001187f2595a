"""A family that an import was told reaches everything that holds out, or tells in- from out-of-domain."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from dfloc.config import Lineage, SampleList
from dfloc.errors import ConfigError
from dfloc.report.groups import Group
from dfloc.report.models import ONE, MatrixColumn
from dfloc.report.results import Result
from dfloc.report.roles import Role
from dfloc.storage import Workspace
from dfloc.summary import params
from dfloc.sweep.data import Expected
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Resolved
from dfloc.sweep.resolve import resolve
from dfloc.sweep.scores import relation
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile
from tests.engine.fakes import make_spec
from tests.sweep.conftest import STUDY
from tests.sweep.test_resolve import trials

DOMAINS = ("mine/sd-15", "mine/sd-xl", "other/lama", "celebahq/ldm")
BOTH = {"mine/sd-15": "sd", "mine/sd-xl": "sd"}


def planned(
    folder: Path, families: Mapping[str, str], *settings: str, domains: tuple[str, ...] = DOMAINS, text: str = STUDY
) -> Resolved:
    path = folder / "tiny.yaml"
    path.write_text(text)
    data = Expected("own", {name: {"train": 9, "valid": 3, "test": 5} for name in domains}, {}, families)
    asked = (f"domains=[{','.join(domains)}]", *settings)
    study = expand(SweepFile(path).choose("own", asked), data=data)
    return resolve(study, data, Inventory(Workspace(folder, create=False)), preset="own")


def bases(resolved: Resolved) -> dict[object, set[str]]:
    return {trial.axes["held_out"]: set(trial.spec.train.counts) for trial in trials(resolved, "base")}


def test_holding_one_out_holds_out_its_whole_family(tmp_path: Path) -> None:
    plain, said = planned(tmp_path, {}), planned(tmp_path, BOTH)
    assert bases(plain)["mine/sd-15"] == {"mine/sd-xl", "other/lama", "celebahq/ldm"}
    assert bases(said) == {
        "mine/sd-15": {"other/lama", "celebahq/ldm"},
        "mine/sd-xl": {"other/lama", "celebahq/ldm"},
        "other/lama": {"mine/sd-15", "mine/sd-xl", "celebahq/ldm"},
        "celebahq/ldm": {"mine/sd-15", "mine/sd-xl", "other/lama"},
    }
    with pytest.raises(ConfigError, match="no domain is left to train on"):
        planned(tmp_path, BOTH, domains=DOMAINS[:2])


def test_a_family_is_on_record_and_in_no_key(tmp_path: Path) -> None:
    plain, said = planned(tmp_path, {}), planned(tmp_path, BOTH)
    assert (plain.record.families, said.record.families) == ({}, BOTH)
    pairs = zip(trials(plain, "baselines"), trials(said, "baselines"), strict=True)
    for one, other in pairs:
        assert one.spec.lineage.families == {}
        assert other.spec.lineage.families == BOTH
        assert one.fingerprint == other.fingerprint
        assert [each.key for each in one.evaluations] == [each.key for each in other.evaluations]
    kept = {held_out: trials(plain, "base", held_out=held_out)[0].fingerprint for held_out in DOMAINS[2:]}
    assert kept == {held_out: trials(said, "base", held_out=held_out)[0].fingerprint for held_out in DOMAINS[2:]}


def test_a_family_that_is_the_generators_name_is_none_of_its_own(tmp_path: Path) -> None:
    by_name = {"mine/sd-15": "sd-15", "mine/sd-xl": "sd-xl"}
    assert planned(tmp_path, by_name).record == planned(tmp_path, {}).record


def test_images_of_a_family_of_the_base_are_no_exposure(tmp_path: Path) -> None:
    settings = ("stages.base.train.domains=[mine/sd-15]", "stages.base.grid.held_out=[mine/sd-xl]")
    (plain,), (said,) = (trials(planned(tmp_path, of, *settings), "finetune", n=4) for of in ({}, BOTH))
    assert (plain.spec.lineage.exposure, said.spec.lineage.exposure) == (4, 0)
    assert params(plain.spec, {})["exposure.domains"] == "mine/sd-xl"
    assert params(said.spec, {})["exposure.domains"] == "none"


def test_a_point_is_judged_on_no_family_that_it_was_trained_on(tmp_path: Path) -> None:
    lone = STUDY.replace("    from: base\n    grid: {n: [2, 4]}\n", "").replace("held_out, count: n", "all, count: 2")
    search = (
        "search={stage: finetune, trials: 2, objective: leave-one-training-domain-out, "
        "space: {trial.loss: {choices: [bce, dice]}}}"
    )
    found = planned(tmp_path, BOTH, search, text=lone)
    folds = {trial.axes["left_out"]: set(trial.spec.train.counts) for trial in found.cover}
    assert folds["mine/sd-15"] == folds["mine/sd-xl"] == {"other/lama", "celebahq/ldm"}


def test_in_domain_is_by_the_family_that_was_said() -> None:
    lineage = Lineage(base=("mine/sd-15",), families={"mine/sd-15": "sd"})
    spec = make_spec(lineage=lineage, train=SampleList(digest="t", counts={}))
    assert relation(spec, "mine/sd-xl", {}) == "out", "nobody says what it is of"
    assert relation(spec, "mine/sd-xl", BOTH) == "in"
    assert relation(spec, "other/sd", {}) == "in", "by its generator's name"
    assert relation(spec, "other/sd", {"other/sd": "sd-turbo"}) == "out"


def test_a_report_knows_a_domain_by_the_family_that_was_said(tmp_path: Path) -> None:
    (trial,) = trials(planned(tmp_path, BOTH), "base", held_out="other/lama")
    group = Group("base", "", Role(frozenset()), {}, {}, (), (Result(trial, "new", "", None, None, (), {}),), {})
    known = [MatrixColumn("c", ONE, group, BOTH | more).knows("mine/sd-2") for more in ({}, {"mine/sd-2": "sd"})]
    assert known == [False, True]


def test_two_of_one_generators_name_are_said_to_be_one_family(tmp_path: Path) -> None:
    names = ("mine/ldm", "celebahq/ldm", "other/lama")
    (note,) = planned(tmp_path, {}, domains=names).record.notes
    assert note.startswith("celebahq/ldm and mine/ldm are one family, ldm, by the generator's name")
    assert bases(planned(tmp_path, {}, domains=names))["mine/ldm"] == {"other/lama"}
    told = planned(tmp_path, {"mine/ldm": "ldm-2"}, domains=names)
    assert told.record.notes == ()
    assert bases(told)["mine/ldm"] == {"celebahq/ldm", "other/lama"}
    dolos = ("celebahq/repaint-p2", "ffhq/repaint-p2", "celebahq/ldm")
    assert planned(tmp_path, {}, domains=dolos).record.notes == (), "its paper says it"
