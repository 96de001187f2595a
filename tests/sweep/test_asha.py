import optuna
import pytest
from optuna.pruners import SuccessiveHalvingPruner

from dfloc.sweep.asha import Cut, Rungs, rungs

LINE = ()


def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch() -> None:
    assert rungs(2, 3, 30) == (2, 6, 18)
    assert rungs(1, 2, 4) == (1, 2)
    assert rungs(5, 2, 5) == ()


def test_the_best_of_each_rung_go_on_by_hand() -> None:
    found = Rungs((1, 2), 2)
    found.put(LINE, "a", {1: 0.3})
    assert found.cut(LINE, "a") is None, "the first has no rival"
    found.put(LINE, "b", {1: 0.2})
    assert found.cut(LINE, "b") == Cut(1, 0.2, 0.3), "of two the better one"
    found.put(LINE, "c", {1: 0.25})
    assert found.cut(LINE, "c") == Cut(1, 0.25, 0.3), "3 // 2 = 1: the best one"
    found.put(LINE, "d", {1: 0.3})
    assert found.cut(LINE, "d") is None, "4 // 2 = 2: the second best has 0.3 too"
    found.put(LINE, "a", {2: 0.5})
    found.put(LINE, "d", {2: 0.4})
    assert found.cut(LINE, "a") is None
    assert found.cut(LINE, "d") == Cut(2, 0.4, 0.5)


def test_a_trial_is_judged_by_its_best_epoch_until_the_rung() -> None:
    found = Rungs((2,), 2)
    found.put(LINE, "a", {1: 0.5, 2: 0.1})
    found.put(LINE, "b", {1: 0.2, 2: 0.4})
    assert found.cut(LINE, "a") is None
    assert found.cut(LINE, "b") == Cut(2, 0.4, 0.5)
    found.put(LINE, "b", {3: 0.9})
    assert found.cut(LINE, "b") == Cut(2, 0.4, 0.5), "what comes after the rung does not count for it"


def test_a_rung_is_decided_when_it_is_reached_and_not_again_when_rivals_come_later() -> None:
    """Optuna is asked at the same epochs in the same order, of three trials at once."""
    values = {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.5, 0.6, 0.7, 0.8], "c": [0.6, 0.1, 0.1, 0.9]}
    order = ["a", "b", "c", "a", "b", "a", "a", "c"]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=SuccessiveHalvingPruner(1, reduction_factor=3))
    asked = {name: study.ask() for name in values}
    found, epochs = Rungs((1, 3), 3), dict.fromkeys(values, 0)
    stopped = []
    for name in order:
        value = values[name][epochs[name]]
        epochs[name] += 1
        asked[name].report(value, epochs[name])
        found.put(LINE, name, {epochs[name]: max(values[name][: epochs[name]])})
        assert (found.cut(LINE, name, epochs[name]) is not None) == asked[name].should_prune()
        stopped += [name] if found.cut(LINE, name) else []
    assert "a" in stopped, "by the rivals that came later it would have been stopped"


def test_other_folds_are_no_rivals() -> None:
    found = Rungs((1,), 2)
    found.put(("easy",), "a", {1: 0.9})
    found.put(("hard",), "b", {1: 0.1})
    assert found.cut(("hard",), "b") is None


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_decisions_are_optunas(factor: int) -> None:
    values = [0.31, 0.1, 0.45, 0.44, 0.2, 0.5, 0.46, 0.47, 0.05, 0.48, 0.49, 0.3]
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=factor)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    found = Rungs((1,), factor)
    for place, value in enumerate(values):
        trial = study.ask()
        trial.report(value, 1)
        found.put(LINE, str(place), {1: value})
        assert (found.cut(LINE, str(place)) is not None) == trial.should_prune()
