"""Domains of every kind in lists, real images beside fakes, and what is scored without being in a mean."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from dfloc.data import mini
from dfloc.data.manifest import DomainKind
from dfloc.errors import ConfigError, DataError
from dfloc.storage import Workspace
from dfloc.sweep import reals
from dfloc.sweep.data import Expected
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Resolved
from dfloc.sweep.prepare import _domains
from dfloc.sweep.resolve import resolve
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_data import SweepRequest, data_of
from dfloc.sweep.sweep_file import SweepFile
from tests.sweep.conftest import STUDY, Planner
from tests.sweep.test_resolve import train_ids, trials

COUNTS = {"train": 90, "valid": 9, "test": 5}
TINY = ("tiny/blur", "tiny/noise", "tiny/real", "tiny/whole")
WHOLE: Mapping[str, DomainKind] = MappingProxyType({"tiny/whole": "full"})
DOMAINS = "domains=[tiny/blur,tiny/noise]"
BASE = "stages.base.train"


def planned(
    folder: Path, *settings: str, held: tuple[str, ...] = TINY, limit: int | None = None, study: str = STUDY
) -> Resolved:
    path = folder / "tiny.yaml"
    path.write_text(study)
    data = Expected("own", dict.fromkeys(held, COUNTS), {}, {}, WHOLE)
    found = expand(SweepFile(path).choose("own", (DOMAINS, *settings)), limit=limit, data=data)
    return resolve(found, data, Inventory(Workspace(folder, create=False)), preset="own", limit=limit)


def base(folder: Path, *settings: str, **how: object) -> dict[str, int]:
    """Return the training list of the model that never saw `blur`."""
    (trial,) = trials(planned(folder, *settings, **how), "base", held_out="tiny/blur")  # type: ignore[arg-type]
    return trial.spec.train.counts


def test_words_and_names_of_any_kind_stand_in_a_list(tmp_path: Path) -> None:
    for asked, expected in {
        "[all,real]": {"tiny/blur", "tiny/noise", "tiny/real"},
        "[all_but_held_out,real]": {"tiny/noise", "tiny/real"},
        "[held_out,real]": {"tiny/blur", "tiny/real"},
        "[all,whole]": {"tiny/blur", "tiny/noise", "tiny/whole"},
        "[noise,tiny/noise,real,tiny/real]": {"tiny/noise", "tiny/real"},
        "[whole]": {"tiny/whole"},
        "real": {"tiny/real"},
        "tiny/real": {"tiny/real"},
    }.items():
        assert base(tmp_path, f"{BASE}.domains={asked}") == dict.fromkeys(expected, 6), asked


@pytest.mark.ray
def test_order_is_no_matter_to_a_trial(planner: Planner) -> None:
    lists = ("[all,real]", "[real,all]", "[tiny/real,noise,blur]", "[real,all,noise]")
    found = [planner.resolve(f"{BASE}.domains={asked}", f"{BASE}.count={{real: 8, rest: 4}}") for asked in lists]
    bases = [trials(resolved, "base", held_out="tiny/blur")[0] for resolved in found]
    assert len({trial.fingerprint for trial in bases}) == 1
    assert bases[0].spec.train.counts == {"tiny/blur": 4, "tiny/noise": 4, "tiny/real": 8}
    assert bases[0].spec.lineage.base == ("tiny/blur", "tiny/noise", "tiny/real")
    local, reals_ = (
        {name.partition("/train/")[2] for name in train_ids(found[0], bases[0]) if name.startswith(f"tiny/{domain}/")}
        for domain in ("noise", "real")
    )
    assert local < reals_, "ranks are those of photographs, whatever the domain: 4 are part of 8"


@pytest.mark.ray
def test_a_list_of_fakes_beside_reals_is_the_list_without_them(planner: Planner) -> None:
    plain, beside = planner.resolve(), planner.resolve(f"{BASE}.domains=[all_but_held_out,real]")
    alone, more = (trials(each, "base", held_out="tiny/blur")[0] for each in (plain, beside))
    assert train_ids(plain, alone) == {name for name in train_ids(beside, more) if "/real/" not in name}


def test_counts_by_domain_by_kind_and_for_the_rest(tmp_path: Path) -> None:
    lists = f"{BASE}.domains=[all,real,whole]"
    for asked, expected in {
        "{real: 9, rest: 3}": (3, 3, 9, 3),
        "{real: 9, whole: 5, rest: 3}": (3, 3, 9, 5),
        "{first: 4, tiny/real: 8, rest: 2}": (4, 2, 8, 2),
        "{real: all, rest: 7}": (7, 7, 90, 7),
        "all": (90, 90, 90, 90),
    }.items():
        assert base(tmp_path, lists, f"{BASE}.count={asked}") == dict(zip(TINY, expected, strict=True)), asked
    (trial,) = trials(planned(tmp_path, lists, f"{BASE}.valid={{real: 5, rest: 2}}"), "base", held_out="tiny/blur")
    assert trial.spec.valid.counts == dict(zip(TINY, (2, 2, 5, 2), strict=True))
    scaled = base(tmp_path, lists, f"{BASE}.count={{real: 80, rest: 40}}", limit=10)
    assert scaled == dict(zip(TINY, (5, 5, 10, 5), strict=True)), "one factor for all"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((f"{BASE}.domains=[all,real]", f"{BASE}.count={{real: 3, tiny/real: 2, rest: 1}}"), "names tiny/real twice"),
        ((f"{BASE}.domains=[all,real]", f"{BASE}.count={{real: 3}}"), "no number for tiny/blur, tiny/noise; .* rest"),
        (
            (f"{BASE}.domains=all", f"{BASE}.count={{real: 3, rest: 1}}"),
            "count names real, but base .* trains on other",
        ),
        ((f"{BASE}.domains=[all,blurr]",), 'unknown domain "blurr".*tiny/blur'),
        ((f"{BASE}.domains=[all,domain]",), "stage base has no axis domain"),
        ((f"{BASE}.domains=[real,all_but_held_out]", "stages.base.grid=null", "stages.base.grid.x=[1]"), "axis"),
        ((f"{BASE}.domains=[real,all_but_held_out]", "domains=[tiny/blur]"), "no domain is left to train on"),
        (("evaluate.reals=[tiny/blur]",), r"evaluate\.reals should be domains of real .* tiny/blur is one of fakes"),
        (("evaluate.reals=[tiny/whole]",), "tiny/whole is one of fakes"),
        (("evaluate.reals=[other/real]",), 'unknown domain "other/real"'),
        (("evaluate.reals=real",), r"evaluate\.reals"),
    ],
)
def test_what_is_wrong_with_a_list_is_one_sentence(tmp_path: Path, settings: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        planned(tmp_path, *settings)
    assert "\n" not in str(raised.value)


def test_too_few_reals_are_told_with_the_limit_that_fits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiny/real has 90 train images, but the study asks for 180; .*--limit 90"):
        planned(tmp_path, f"{BASE}.domains=[all,real]", f"{BASE}.count={{real: 180, rest: 4}}")


def test_reals_that_the_data_lack_are_told_with_where_they_come_from(tmp_path: Path) -> None:
    cure = "real images are those of tiny/real/<split> of a tree, or of --authentic"
    reals_asked = f"{BASE}.domains=[all,real]"
    found = planned(tmp_path, reals_asked, held=TINY[:2])
    by_name = planned(tmp_path, f"{BASE}.domains=[all,tiny/real]", "evaluate.reals=[tiny/real]", held=TINY[:2])
    assert {*found.record.notes} < {*by_name.record.notes}
    assert {trial.stage for trial in found.record.trials} == {"baselines"}
    assert "stage base: 2 of 2 trials skipped: the data lack tiny/real" in found.record.notes
    assert cure in found.record.notes
    assert not any("--set domains=" in note for note in found.record.notes), "the domains are all there"
    everywhere = ("stages.finetune.train.domains=[held_out,real]", "stages.baselines.train.domains=[all,real]")
    with pytest.raises(DataError, match=f"every trial of the study needs tiny/real.*{cure}"):
        planned(tmp_path, reals_asked, *everywhere, held=TINY[:2])


def test_built_in_data_of_an_earlier_version_are_told_with_their_cure(tmp_path: Path) -> None:
    held = ("mini/telea", "mini/renoise")
    found = planned(tmp_path, "domains=[mini/telea,mini/renoise]", f"{BASE}.domains=[all,mini/renoise-full]", held=held)
    assert {trial.stage for trial in found.record.trials} == {"baselines"}
    assert any("delete shards/mini, and they are made again" in note for note in found.record.notes)


def test_real_is_the_reals_of_all_sources_of_the_study(tmp_path: Path) -> None:
    two = (f"{BASE}.domains=[all,real]", "domains=[tiny/blur,other/noise]", "stages.base.grid.held_out=[tiny/blur]")
    held = ("tiny/blur", "other/noise", "tiny/real", "other/real", "third/real")
    both = planned(tmp_path, *two, held=held)
    (trial,) = trials(both, "base")
    assert trial.spec.train.counts.keys() == {"tiny/blur", "other/noise", "tiny/real", "other/real"}
    assert not [note for note in both.record.notes if "real" in note], "no note that all reals are one family"
    own = planned(tmp_path, *two, held=held[:3])
    (trial,) = trials(own, "base")
    assert trial.spec.train.counts.keys() == {"tiny/blur", "other/noise", "tiny/real"}
    assert "the data have no other/real: `real` stands for tiny/real alone" in own.record.notes
    (odd,) = (note for note in own.record.notes if "tells the sources apart" in note)
    assert odd.startswith("base trains on real images of tiny and fakes of other, tiny: what tells")


def test_reals_are_scored_by_default_and_where_they_are_named_and_no_mean_runs_over_them(tmp_path: Path) -> None:
    plain, scored, default = (
        planned(tmp_path, "evaluate.reals=[]"),
        planned(tmp_path, "evaluate.reals=[real]"),
        planned(tmp_path),
    )
    assert (default.record, default.unasked) == (scored.record, frozenset({"tiny/real"}))
    assert not plain.unasked
    assert not scored.unasked
    assert not any(one.domain == "tiny/real" for trial in plain.record.trials for one in trial.evaluations)
    assert scored.record.tested == plain.record.tested == ("tiny/blur", "tiny/noise")
    for old, new in zip(plain.record.trials, scored.record.trials, strict=True):
        assert new.fingerprint == old.fingerprint
        keys = [[one.key for one in trial.evaluations] for trial in (old, new)]
        assert {*keys[0]} < {*keys[1]}, "evaluations are added, none is another"
        more = [one for one in new.evaluations if one.key not in keys[0]]
        assert [(one.domain, one.checkpoint) for one in more] == [("tiny/real", "best"), ("tiny/real", "last")]
        assert {one.test.size for one in more} == {5}
    few = planned(tmp_path, "evaluate.reals=[tiny/real]", "evaluate.count=2")
    assert {one.test.size for trial in few.record.trials for one in trial.evaluations} == {2}


def test_reals_without_test_images_are_a_note(tmp_path: Path) -> None:
    found = planned(tmp_path, "evaluate.reals=[real]", held=TINY[:2])
    said = "the data have no test images of tiny/real: only fakes are scored there (real images are those of"
    assert sum(note.startswith(said) for note in found.record.notes) == 1
    default, none = (planned(tmp_path, *asked, held=TINY[:2]) for asked in ((), ("evaluate.reals=[]",)))
    assert found.record.trials == default.record.trials
    assert (default.record, default.unasked) == (none.record, frozenset()), (
        "as before there were reals: no word of them"
    )


def test_a_task_of_images_is_told_that_its_reals_lack(tmp_path: Path) -> None:
    detects = STUDY.replace(
        "decoder: {name: conv, depth: 4, channels: [4], out_size: 32}", "decoder: {name: linear, pool: mean}"
    )
    detects = detects.replace("loss: bce", "loss: ce\n  task: detect").replace(
        "protocol: declip-2025", "protocol: image-1"
    )
    detects = detects.replace("decoder: [all-fake, mean-mask]", "decoder: [prior]")
    detects = detects.replace("domains: all_but_held_out", "domains: [all_but_held_out, other/real]")
    detects = detects.replace("domains: held_out,", "domains: [held_out, other/real],")
    detects = detects.replace("domains: all,", "domains: [all, other/real],")
    found = planned(tmp_path, "evaluate.domains=[noise]", held=(*TINY[:2], "other/real"), study=detects)
    said = [note for note in found.record.notes if note.startswith("the data have no test images of tiny/real")]
    assert len(said) == 1
    assert not found.unasked


def test_a_real_list_that_is_tested_on_anyway_is_asked_for(tmp_path: Path) -> None:
    found = planned(tmp_path, "evaluate.domains=[noise,tiny/real]")
    assert not found.unasked
    assert [one.domain for one in found.record.trials[0].evaluations] == ["tiny/noise", "tiny/real"] * 2


def test_a_wholly_generated_domain_is_tested_on_and_stands_beside_the_means(tmp_path: Path) -> None:
    found = planned(tmp_path, "evaluate.domains=[blur,noise,whole,tiny/real]")
    assert {one.domain for one in found.record.trials[0].evaluations} == {*TINY}
    assert found.record.tested == ("tiny/blur", "tiny/noise")
    beside = planned(tmp_path, "evaluate.domains=[whole]", "evaluate.reals=[real]")
    assert beside.record.tested == ("tiny/whole",), "reals are in no mean, also where no domain of the study is tested"


def test_real_images_are_no_exposure_and_no_fold(tmp_path: Path) -> None:
    found = planned(tmp_path, "stages.finetune.train.domains=[held_out,real]")
    (child,) = trials(found, "finetune", held_out="tiny/blur", n=4)
    assert (child.spec.train.size, child.spec.lineage.exposure) == (8, 4)
    lone = STUDY.replace("    from: base\n    grid: {n: [2, 4]}\n", "")
    lone = lone.replace("held_out, count: n", "[all, real], count: 2")
    search = (
        "search={stage: finetune, trials: 2, objective: leave-one-training-domain-out, "
        "space: {trial.loss: {choices: [bce, dice]}}}"
    )
    cover = planned(tmp_path, search, study=lone).cover
    assert {(trial.axes["left_out"], *trial.spec.train.counts) for trial in cover} == {
        ("tiny/blur", "tiny/noise", "tiny/real"),
        ("tiny/noise", "tiny/blur", "tiny/real"),
    }
    assert {domain for trial in cover for domain in trial.spec.valid.counts} == {"tiny/blur", "tiny/noise"}


def balance(real: int, fake: int) -> reals.Balance:
    return reals.Balance.of({"s/real": real, "s/a": fake})


def test_over_three_to_one_is_uneven_and_one_side_alone_is_not() -> None:
    assert [balance(*each).uneven for each in ((3, 9), (3, 10), (9, 3), (10, 3), (0, 9), (9, 0))] == [
        *(False, True, False, True, False, False)
    ]
    assert str(balance(9000, 30000)) == "9,000 real : 30,000 fake"


def test_the_plan_prints_each_balance_and_warns_over_three_to_one(tmp_path: Path) -> None:
    asked = (f"{BASE}.domains=[all,real]", f"{BASE}.count={{real: 2, rest: 4}}")
    found = planned(tmp_path, *asked)
    assert list(reals.lines(found.all)) == [
        "balance of stage base: 2 real : 8 fake to train on, 2 real : 4 fake to validate on"
    ]
    warning = (
        "Warning: base trains on 2 real : 8 fake, over 3:1, which favours calling an image fake; say others by "
        "train.count or train.valid"
    )
    assert warning in found.record.notes
    assert warning not in planned(tmp_path, *asked[:1], f"{BASE}.count={{real: 3, rest: 4}}").record.notes
    assert list(reals.lines(planned(tmp_path).all)) == []
    cases = "stages.base.cases={a: {}, b: {}, c: {train: {count: {real: 6, rest: 3}}}}"
    assert list(reals.lines(planned(tmp_path, *asked, cases, "stages.finetune=null").all)) == [
        "balance of base/a, base/b: 2 real : 8 fake to train on, 2 real : 4 fake to validate on",
        "balance of base/c: 6 real : 6 fake to train on, 2 real : 4 fake to validate on",
    ]


def test_domains_data_takes_local_domains_alone(tmp_path: Path) -> None:
    data = data_of(SweepRequest("exposure", str(tmp_path)), Workspace(tmp_path, create=False))
    local = ["mini/checkerboard", "mini/reencode", "mini/renoise", "mini/telea"]
    assert _domains("data", data) == local
    assert dict(data.kinds) == dict.fromkeys(local, "local") | {"mini/renoise-full": "full", "mini/real": "real"}
    assert {*data.facts("mini/renoise-full")} == {"train", "valid", "test"}
    for name in ("mini/renoise-full", "mini/real", "celebahq/p2", "ffhq/real"):
        with pytest.raises(ConfigError, match=f"{name} has no masks: the domains of a study are those of partly"):
            _domains(["mini/telea", name], data)


def test_a_tree_and_pairs_bring_their_reals_and_add_local_domains_alone(tiny_tree: Path, tmp_path: Path) -> None:
    (tiny_tree / "tiny/real/train").rename(tiny_tree / "tiny/fake/whole")
    (tiny_tree / "tiny/fake/whole").rename(tiny_tree / "train")
    (tiny_tree / "tiny/fake/whole").mkdir()
    (tiny_tree / "train").rename(tiny_tree / "tiny/fake/whole/train")
    data = data_of(SweepRequest("exposure", str(tmp_path / "w"), data=str(tiny_tree)), Workspace(tmp_path / "w"))
    assert dict(data.kinds) == {
        **{"tiny/blur": "local", "tiny/noise": "local", "tiny/real": "real", "tiny/whole": "full"}
    }
    assert data.local == ("tiny/blur", "tiny/noise")
    assert data.facts("tiny/whole")["train"].images == 10
    assert mini.SEMANTICS == 2
