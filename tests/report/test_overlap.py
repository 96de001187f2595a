import pytest

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.report.groups import Study
from dfloc.report.overlap import sentences
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.studies import DOLOS, Maker

LDM, P2, LAMA, _ = DOLOS


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path)


def put(workspace, trial, *files):
    ids = [f"{domain}/train/{name}" for domain, names in files for name in names]
    storage.put_json(workspace.lists / f"{trial.spec.train.digest}.json", ids)


def study_of(workspace, maker) -> Study:
    record = studies.record(maker, "paper")
    studies.fill(workspace, record)
    return Study(record, Results(workspace, record))


def said(workspace, study, stage) -> list[str]:
    return sentences(workspace, study, study.stage(stage))


@pytest.fixture
def maker(workspace) -> Maker:
    """The base saw photographs 1 and 2; the fine-tunes see crops of 1, 2 and 3, two of them under the same name."""
    maker = Maker(DOLOS, num_test=4)
    base = maker.plan("base", {P2: 3, LAMA: 1}, held_out=LDM)
    put(workspace, base, (P2, ["1-0.png", "1-1.png", "2-0.png"]), (LAMA, ["1-0.jpg"]))
    files = ["1-0.png", "2-0.jpg", "2-5.png", "3-0.png"]
    for n in (2, 4):
        put(workspace, maker.plan("finetune", {LDM: n}, parent=base, held_out=LDM, n=n), (LDM, files[:n]))
    replay = maker.plan("replay", {LDM: 2, P2: 2}, parent=base, held_out=LDM, n=2)
    put(workspace, replay, (LDM, ["3-0.png", "4-0.png"]), (P2, ["1-0.png", "1-1.png"]))
    return maker


def test_photographs_and_file_names_that_the_base_saw_are_counted(workspace, maker):
    study = study_of(workspace, maker)
    words = (
        "2 of 3 fine-tune source images were also trained on by the base, with other generators (2 of 4 by file name)."
    )
    assert said(workspace, study, "finetune") == [words]


def test_what_a_replay_takes_from_the_base_is_not_counted(workspace, maker):
    (words,) = said(workspace, study_of(workspace, maker), "replay")
    assert words.startswith("0 of 2 fine-tune source images")


def test_a_domain_of_a_family_of_the_base_is_not_new(workspace):
    maker = Maker(DOLOS, num_test=4)
    base = maker.plan("base", {P2: 1}, held_out=LDM)
    put(workspace, base, (P2, ["1-0.png"]))
    tuned = maker.plan("replay", {LDM: 1, "celebahq/repaint-p2": 1}, parent=base, held_out=LDM, n=1)
    put(workspace, tuned, (LDM, ["2-0.png"]), ("celebahq/repaint-p2", ["1-0.png"]))
    assert said(workspace, study_of(workspace, maker), "replay")[0].startswith("0 of 1 fine-tune source images")


def test_each_base_and_each_facet_is_counted_for_itself(workspace):
    maker = Maker(DOLOS, num_test=4)
    for held_out, name in ((LDM, "1-0.png"), (LAMA, "2-0.png")):
        base = maker.plan("base", {P2: 1}, case=held_out, held_out=held_out, epochs=len(held_out))
        put(workspace, base, (P2, [name]))
        for pairing, photograph in (("stems", "1-0.png"), ("disjoint", "9-0.png")):
            axes = {"held_out": held_out, "n": 1, "pairing": pairing}
            put(workspace, maker.plan("finetune", {held_out: 1}, parent=base, **axes), (held_out, [photograph]))
    stems, disjoint = said(workspace, study_of(workspace, maker), "finetune")
    assert stems.startswith("stems: 1 of 2 fine-tune source images")
    assert stems.endswith("(1 of 2 by file name; 2 bases, each counted for itself).")
    assert disjoint.startswith("disjoint: 0 of 2 fine-tune source images")


def test_without_lists_the_overlap_is_not_known(workspace, maker):
    (workspace.lists / f"{maker.trials[0].spec.train.digest}.json").unlink()
    (words,) = said(workspace, study_of(workspace, maker), "finetune")
    assert words.endswith("is not known: lists of samples, or their data, are missing.")


def test_a_damaged_list_is_named(workspace, maker):
    (workspace.lists / f"{maker.trials[0].spec.train.digest}.json").write_text('["celebahq')
    with pytest.raises(WorkspaceError, match="is no JSON"):
        said(workspace, study_of(workspace, maker), "finetune")


def test_nothing_is_said_where_nothing_was_trained(workspace, maker):
    record = studies.record(maker, "paper")
    assert said(workspace, Study(record, Results(workspace, record)), "finetune") == []
