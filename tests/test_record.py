"""A sweep's record is a list of starts: what each planned, what they plan together, and what survives a kill."""

import json
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.planned import PlannedTrial, SearchAxis, SearchRecord
from dfloc.record import OLD, Position, Starts, SweepRecord, files, union
from tests.report import studies
from tests.report.studies import MINI, Maker

AXES = {"lr": SearchAxis(low=1e-4, high=1e-1, log=True)}


def start(*trials: PlannedTrial, **more: Any) -> SweepRecord:
    return studies.record(Maker(trials=list(trials)), "mini").model_copy(update=more)


def other(trial: PlannedTrial, **spec: Any) -> PlannedTrial:
    """Return what another start plans in a trial's place."""
    made = trial.spec.model_copy(update=spec)
    scored = [each.model_copy(update={"trial": made.fingerprint}) for each in trial.evaluations]
    return trial.model_copy(update={"spec": made, "fingerprint": made.fingerprint, "evaluations": tuple(scored)})


def by(trial: PlannedTrial, protocol: str) -> PlannedTrial:
    return trial.model_copy(
        update={"evaluations": tuple(each.model_copy(update={"protocol": protocol}) for each in trial.evaluations)}
    )


def searching(stage: str = "search", *points: PlannedTrial, **more: Any) -> SearchRecord:
    about = {"stage": stage, "objective": "valid", "trials": 8, "axes": AXES}
    return SearchRecord(**{**about, "points": tuple((trial.fingerprint,) for trial in points), **more})


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def base(maker: Maker) -> PlannedTrial:
    return maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])


@pytest.fixture
def solved(maker: Maker) -> PlannedTrial:
    return maker.plan("baselines", {MINI[0]: 53}, decoder="all-fake", epochs=1)


def folder(tmp_path: Path, sweep: str = "exposure-mini-mini") -> UPath:
    return UPath(tmp_path) / "sweeps" / sweep


def names(place: UPath) -> list[str]:
    return [path.name for path in files(place).values()]


def test_a_start_of_other_stages_keeps_the_search_and_what_describes_the_page(
    tmp_path: Path, maker: Maker, solved: PlannedTrial
) -> None:
    points = [maker.plan("search", {MINI[0]: 53}, lr=lr, point=number) for number, lr in enumerate((0.1, 0.01))]
    first = start(*points, solved, search=searching("search", *points), tables=("s000.budgets",), notes=("first",))
    first.save(folder(tmp_path))
    second = start(solved, title="Only the baselines", domains=MINI[:1], notes=("second",), protocol="dfloc-1")
    found = second.save(folder(tmp_path))
    assert found == SweepRecord.load(folder(tmp_path))
    assert found.search == first.search
    assert (found.title, found.domains, found.protocol) == (first.title, first.domains, first.protocol)
    assert (found.tables, found.notes) == (first.tables, ("first", "second"))
    assert {trial.fingerprint for trial in found.trials} == {trial.fingerprint for trial in first.trials}
    assert found.replaced == ()
    again = start(*points, solved, search=searching("search", *points), title="Anew").save(folder(tmp_path))
    assert (again.title, again.tables, again.notes) == ("Anew", (), ()), "the newest start that plans the stages"


def test_searches_of_two_stages_are_both_there_and_the_newest_of_a_stage_speaks(maker: Maker) -> None:
    points = {name: [maker.plan(name, {MINI[0]: 53}, lr=0.1 + k, point=k) for k in range(2)] for name in ("a", "b")}
    one, two = (start(*points[name], search=searching(name, *points[name])) for name in ("a", "b"))
    both = union([one, two])
    assert [(each.stage, len(each.points)) for each in both.searches] == [("a", 2), ("b", 2)]
    renamed = start(*points["a"][:1], search=searching("a", *points["a"][:1], trials=3))
    found = union([one, two, renamed])
    assert [(each.stage, len(each.points), each.trials) for each in found.searches] == [("b", 2, 8), ("a", 1, 3)]
    assert len(found.trials) == 4


def test_the_newest_trial_of_a_cell_speaks_and_the_others_are_replaced(base: PlannedTrial, maker: Maker) -> None:
    kept = maker.plan("base", {MINI[2]: 53}, held_out=MINI[3])
    new = other(base, batch=7)
    found = union([start(base, kept), start(new)])
    assert found.trials == (new, kept)
    assert found.replaced == (base,)
    back = union([start(base, kept), start(new), start(base)])
    assert (back.trials, back.replaced) == ((base, kept), (new,)), "a start may go back to what was"
    twice = start(base, other(base, batch=8))
    assert union([twice, start(kept)]).trials == (kept, *twice.trials), "of two parents, or of an old union: both speak"


def test_the_newest_start_that_has_a_domain_says_its_family(base: PlannedTrial, maker: Maker) -> None:
    """Imported again by the generator's name: nobody says another family any more."""
    said = {"mine/a": "one", "mine/b": "one"}
    first = start(base, domains=("mine/a", "mine/b"), families=said)
    other = start(maker.plan("scratch", {MINI[0]: 4}), domains=("mine/b",))
    assert union([first, other]).families == {"mine/a": "one"}
    assert union([other, first]).families == said


@pytest.mark.parametrize(
    "value", [[{"name": "focal", "gamma": 1}, 2], {"b": [1, {"c": None}], "a": 0.5}, True, None, 1e-3, "x y"]
)
def test_an_axis_may_have_any_value_of_json(base: PlannedTrial, tmp_path: Path, value: Any) -> None:
    def of(trial: PlannedTrial, loss: Any) -> PlannedTrial:
        return PlannedTrial(**{**dict(trial), "axes": {"loss": loss}})

    trials = [of(base, value), of(base, "other")]
    start(*trials).save(folder(tmp_path))
    again = json.loads(json.dumps(value)) if not isinstance(value, dict) else dict(reversed(value.items()))
    new = of(other(trials[0], batch=7), again)
    found = start(new).save(folder(tmp_path))
    assert [trial.spec.batch for trial in found.trials] == [7, base.spec.batch]
    assert found.replaced == (trials[0],)


def test_a_trial_is_scored_as_all_starts_ask(base: PlannedTrial) -> None:
    few = base.model_copy(update={"evaluations": base.evaluations[:1]})
    larger = tuple(
        each.model_copy(update={"test": each.test.model_copy(update={"digest": "e" * 64})}) for each in base.evaluations
    )
    found = union([start(base), start(by(few, "dfloc-1"), protocol="dfloc-1")])
    assert found.protocols == ("dfloc-1", "declip-2025")
    assert [each.protocol for each in found.trials[0].evaluations] == ["dfloc-1"] + ["declip-2025"] * 8
    assert found.by("declip-2025").trials == found.trials
    newest = union([start(base), start(base.model_copy(update={"evaluations": larger[:2]}))]).trials[0]
    assert newest.evaluations == (*larger[:2], *base.evaluations[2:]), "of images that changed, the newest list"


def test_only_trials_that_a_protocol_is_asked_of_are_of_its_part(base: PlannedTrial, solved: PlannedTrial) -> None:
    found = union([start(base, solved), start(by(solved, "dfloc-1"), protocol="dfloc-1")])
    assert found.protocol in ("declip-2025", "dfloc-1")
    assert {trial.stage for trial in found.by("dfloc-1").trials} == {"baselines"}
    assert {trial.stage for trial in found.by("declip-2025").trials} == {"base", "baselines"}
    assert found.protocol_of(base) == "declip-2025"


def test_the_part_of_a_protocol_has_the_points_that_it_is_asked_of(maker: Maker) -> None:
    points = [maker.plan("search", {MINI[0]: 53}, lr=lr, point=number) for number, lr in enumerate((0.1, 0.01, 1e-3))]
    newer = [by(point, "dfloc-1") for point in points[1:]]
    first = start(*points[:2], search=searching("search", *points[:2]))
    found = union([first, start(*newer, search=searching("search", *newer), protocol="dfloc-1")])
    assert found.search
    drawn = {name: [one.points for one in found.by(name).searches] for name in ("declip-2025", "dfloc-1", "other")}
    assert drawn == {"declip-2025": [((newer[0].fingerprint,),)], "dfloc-1": [found.search.points], "other": []}


def test_repeating_a_command_adds_no_file(tmp_path: Path, base: PlannedTrial, solved: PlannedTrial) -> None:
    place = folder(tmp_path)
    for _ in range(3):
        start(base, solved).save(place)
    assert names(place) == ["1.json"]
    start(solved).save(place)
    start(solved).save(place)
    assert names(place) == ["1.json", "2.json"]


def test_a_start_of_a_killed_driver_is_on_the_disk_before_another_builds_on_it(
    tmp_path: Path, base: PlannedTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(path: Path) -> None:
        if path.name == "starts":
            raise KeyboardInterrupt

    place = folder(tmp_path)
    monkeypatch.setattr("dfloc.storage.disk.sync", kill)
    with pytest.raises(KeyboardInterrupt):
        Starts(place).begin(start(base))
    assert names(place) == ["1.json"]
    synced = Mock()
    monkeypatch.setattr("dfloc.storage.disk.sync", synced)
    Starts(place).begin(start(base))
    assert [call.args for call in synced.call_args_list] == [(Path(place.path) / "starts",)]


def test_each_file_is_written_once(tmp_path: Path, base: PlannedTrial, solved: PlannedTrial) -> None:
    place = folder(tmp_path)
    start(base).save(place)
    before = files(place)[Position(1)].read_bytes()
    start(base, solved).save(place)
    assert files(place)[Position(1)].read_bytes() == before
    assert storage.is_sealed(files(place)[Position(2)])


def test_points_are_files_of_their_own_and_come_with_their_start(tmp_path: Path, maker: Maker) -> None:
    place, starts = folder(tmp_path), Starts(folder(tmp_path))
    starts.begin(start(search=searching()))
    drawn = [maker.plan("search", {MINI[0]: 53}, lr=0.1**k, point=k) for k in range(12)]
    for trial in drawn:
        starts.add(start(trial, search=searching("search", trial, weighed=trial.axes["point"])))
    starts.add(start(search=searching(weighed=11)))
    assert names(place) == ["1.json", *(f"1.{k}.json" for k in range(1, 13))], "nothing new: no file"
    starts.add(start(search=searching(exhausted=True, importance={"lr": 1.0}, weighed=12)))
    found = SweepRecord.load(place)
    assert found is not None
    assert found.search == searching("search", *drawn, exhausted=True, importance={"lr": 1.0}, weighed=12)
    assert found.trials == tuple(drawn)
    start(*drawn, search=searching("search", *drawn, exhausted=True)).save(place)
    assert len(names(place)) == 14, "a start that took all points over is the newest one"


def test_a_point_whose_start_is_gone_is_still_there(tmp_path: Path, maker: Maker) -> None:
    place, starts = folder(tmp_path), Starts(folder(tmp_path))
    starts.begin(start(search=searching()))
    trial = maker.plan("search", {MINI[0]: 53}, lr=0.1, point=0)
    starts.add(start(trial, search=searching("search", trial)))
    files(place)[Position(1)].unlink()
    found = SweepRecord.load(place)
    assert found is not None
    assert (found.trials, found.search) == ((trial,), searching("search", trial))


def test_a_second_driver_does_not_write_over_a_start(tmp_path: Path, base: PlannedTrial, solved: PlannedTrial) -> None:
    one, two = Starts(folder(tmp_path)), Starts(folder(tmp_path))
    one._put(Position(1), start(base))
    with pytest.raises(WorkspaceError, match=r"1\.json is there already: another driver is at work"):
        two._put(Position(1), start(solved))
    assert SweepRecord.load(folder(tmp_path)) == start(base)


def test_sweeps_are_ordered_by_number_and_a_repeated_start_counts(tmp_path: Path, base: PlannedTrial) -> None:
    def latest() -> str:
        there = [Starts(path) for path in (UPath(tmp_path) / "sweeps").iterdir()]
        return max(there, key=lambda one: one.newest).union.sweep

    for sweep in ("b", "a", "b", "b"):
        start(base, sweep=sweep).save(folder(tmp_path, sweep))
        for number, path in enumerate(sorted(tmp_path.rglob("*.json"), reverse=True)):
            os.utime(path, (1e9 - number, 1e9 - number))
        assert latest() == sweep
    assert names(folder(tmp_path, "b")) == ["1.json", "3.json"], "once more, since another was started meanwhile"
    found = SweepRecord.load(folder(tmp_path, "b"))
    assert found is not None
    assert found.trials == (base,), "such a file plans nothing"


def test_an_old_record_is_the_first_start_and_is_never_touched(
    tmp_path: Path, base: PlannedTrial, solved: PlannedTrial
) -> None:
    place = folder(tmp_path)
    old = start(base, solved, notes=("of before",))
    storage.put_json(place / OLD, old.model_dump(mode="json", exclude={"earlier", "replaced"}))
    before = (place / OLD).read_bytes()
    assert SweepRecord.load(place) == old
    start(base, solved, notes=("of before",)).save(place)
    assert names(place) == [OLD], "the same plan adds no file"
    found = start(other(base, batch=7)).save(place)
    assert names(place) == [OLD, "1.json"]
    assert (place / OLD).read_bytes() == before
    assert [trial.spec.batch for trial in found.trials] == [7, solved.spec.batch]
    assert (found.replaced, found.notes) == ((base,), ("of before",))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", "is no JSON"),
        (lambda data: data[: len(data) // 2], "is no JSON"),
        (lambda data: data.replace(b'"limit": null', b'"limit": 8888'), "is damaged: not what was written"),
        (lambda data: data.replace(b'"sealed"', b'"notes"'), "is damaged"),
        (lambda data: re.sub(rb',?\s*"sealed": "[0-9a-f]+"', b"", data), "its digest is gone"),
        (lambda data: b"[]", "is damaged"),
        (lambda data: b'{"sweep": 5}', "is damaged"),
        (lambda data: b"[" * 100_000, "is no JSON"),
    ],
)
def test_a_damaged_start_is_named(tmp_path: Path, base: PlannedTrial, spoil: Any, message: str) -> None:
    start(base).save(folder(tmp_path))
    path = Path(files(folder(tmp_path))[Position(1)].path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(WorkspaceError, match=f"{path}.*{message}.*delete it and start the sweep again"):
        SweepRecord.load(folder(tmp_path))


def test_a_link_to_nothing_is_named(tmp_path: Path, base: PlannedTrial) -> None:
    start(base).save(folder(tmp_path))
    path = Path(files(folder(tmp_path))[Position(1)].path)
    path.unlink()
    path.symlink_to("/nonexistent/x")
    with pytest.raises(WorkspaceError, match=f"{path} is a link to nothing; delete it"):
        SweepRecord.load(folder(tmp_path))


def test_a_start_of_another_sweep_is_refused_and_other_files_are_none(tmp_path: Path, base: PlannedTrial) -> None:
    start(base).save(folder(tmp_path))
    source = files(folder(tmp_path))[Position(1)]
    target = folder(tmp_path, "other") / "starts" / "1.json"
    storage.put(target, source.read_bytes())
    with pytest.raises(WorkspaceError, match="it is that of exposure-mini-mini"):
        SweepRecord.load(folder(tmp_path, "other"))
    for name in (".1.json.deadbeef.part", "x.json", "1.2.3.json", "-1.json", "1.json.damaged"):
        (source.parent / name).write_text("x")
    assert SweepRecord.load(folder(tmp_path)) == start(base)
