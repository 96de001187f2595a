"""Optuna, asked and told: the next point of a search after those that were tried, and how much each axis matters."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from dfloc import repro
from dfloc.planned import SearchAxis
from dfloc.sweep.search_space import Point, PointResult, SamplerAsk, Space

DIGITS = 4  # of a number that is drawn from a range, so that a person can read and write it


def suggest(space: Space, tried: Sequence[PointResult], sampler: SamplerAsk, number: int, attempt: int = 0) -> Point:
    """Return the next point.

    Nothing is kept in between: the study is rebuilt from what was tried, and the sampler is seeded by seed, number and
    attempt (which counts the draws of one number, where an earlier one was a repetition). So the same points before
    give the same point, however often a search was interrupted. Points that are still open are avoided.
    """
    seed = repro.seed_of("dfloc", sampler.seed, "search", number, attempt) % 2**32
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize", sampler=_sampler(sampler, seed))
        study.add_trials([_optuna_trial(space, one) for one in tried])
        trial = study.ask()
        point: Point = {}
        for name in space.axes:
            point[name] = _drawn(trial, _key(space, name, point), space.axes[name], _distribution(space, name, point))
    return point


def importance(axes: Mapping[str, SearchAxis], tried: Sequence[PointResult], seed: int = 0) -> dict[str, float]:
    """Return how much of the variance of points that have a value each axis explains, by fANOVA, most important first.

    Returns:
        Fractions with sum 1 (Hutter et al., ICML 2014: main effects alone); empty where all points have the same value.
    """
    if len({one.value for one in tried}) < 2:
        return {}
    with _quiet():
        study = optuna.create_study(direction="maximize")
        whole = {name: _whole(axis, [one.point[name] for one in tried]) for name, axis in axes.items()}
        for one in tried:
            params = {name: _measured(axis, one.point[name]) for name, axis in axes.items()}
            study.add_trial(create_trial(params=params, distributions=whole, value=one.value))
        found = optuna.importance.get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {name: float(value) for name, value in found.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own lines from the screen for a while."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _sampler(ask: SamplerAsk, seed: int) -> optuna.samplers.BaseSampler:
    if ask.name == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(n_startup_trials=ask.startup, multivariate=True, group=True, seed=seed)


def _optuna_trial(space: Space, one: PointResult) -> FrozenTrial:
    """Return a point as Optuna has it; a failed one, as any without a value, is the worst of those stopped."""
    params, distributions, before = {}, {}, Point()
    for name, axis in space.axes.items():
        key = _key(space, name, before)
        params[key], distributions[key] = _internal(axis, one.point[name]), _distribution(space, name, before)
        before[name] = one.point[name]
    state = {"done": TrialState.COMPLETE, "open": TrialState.RUNNING}.get(one.state, TrialState.PRUNED)
    reached = {one.epochs: one.value} if one.state == "stopped" and one.value is not None else {}
    value = one.value if one.state == "done" else None
    return create_trial(
        state=state, value=value, params=params, distributions=distributions, intermediate_values=reached
    )


def _key(space: Space, name: str, point: Mapping[str, Any]) -> str:
    """Return the name of Optuna's parameter: choices that depend on another axis are one for each of its values."""
    other = space.axes[name].of
    return f"{name} of {point[other]}" if other else name


def _distribution(space: Space, name: str, point: Mapping[str, Any]) -> BaseDistribution:
    axis = space.axes[name]
    if axis.low is None or axis.high is None:
        return CategoricalDistribution([json.dumps(choice, sort_keys=True) for choice in space.choices(name, point)])
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _whole(axis: SearchAxis, values: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of an axis for an importance: every value that was drawn, whatever it depended on."""
    if axis.low is None or axis.high is None:
        return CategoricalDistribution(sorted({_internal(axis, value) for value in values}))
    if axis.log:
        return FloatDistribution(float(np.log(axis.low)), float(np.log(axis.high)))
    return FloatDistribution(axis.low, axis.high)


def _internal(axis: SearchAxis, value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if axis.low is None else value


def _measured(axis: SearchAxis, value: Any) -> Any:
    """Return where a value stands on the scale on which its axis is drawn evenly."""
    return float(np.log(value)) if axis.log else _internal(axis, value)


def _drawn(trial: optuna.Trial, key: str, axis: SearchAxis, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return json.loads(trial.suggest_categorical(key, distribution.choices))
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    value = trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
    return min(max(float(f"{value:.{DIGITS - 1}e}"), distribution.low), distribution.high)
