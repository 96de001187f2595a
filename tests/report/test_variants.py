from dfloc.report.variants import variants
from tests.report import studies
from tests.report.studies import MINI, Maker


def test_an_ordinary_plan_has_none():
    assert not any(variants(studies.mini(seeds=2).trials))


def test_the_field_that_differs_tells_two_starts_apart():
    maker = Maker()
    first = maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])
    lr = first.spec.optimizer.model_copy(update={"lr": 3e-4})
    spec = first.spec.model_copy(update={"optimizer": lr})
    second = first.model_copy(update={"spec": spec, "fingerprint": spec.fingerprint})
    other = maker.plan("scratch", {MINI[0]: 4}, n=4)
    assert variants([first, second, other]) == [{"optimizer.lr": 1e-3}, {"optimizer.lr": 3e-4}, {}]


def test_children_of_two_starts_are_told_apart_by_their_parent():
    maker = Maker()
    parents = [maker.plan("base", {MINI[0]: 53}, epochs=epochs, held_out=MINI[1]) for epochs in (8, 9)]
    children = [
        maker.plan("finetune", {MINI[1]: 4}, parent=parent, epochs=4, held_out=MINI[1], n=4) for parent in parents
    ]
    found = variants(children)
    assert [each["init"] for each in found] == ["parent 1", "parent 2"]


def test_other_data_tell_apart_where_nothing_else_does():
    maker = Maker()
    first = maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])
    spec = first.spec.model_copy(update={"train": first.spec.train.model_copy(update={"digest": "f" * 64})})
    second = first.model_copy(update={"spec": spec, "fingerprint": spec.fingerprint})
    assert [each["train"] for each in variants([first, second])] == ["training list 1", "training list 2"]
