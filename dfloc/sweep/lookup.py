"""Which trial is meant, by its fingerprint, its run in MLflow, or words of its name in any order; and its rows."""

import difflib
import logging
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import pyarrow as pa

from dfloc import registry, tracking, trial_names
from dfloc.config import TrialSpec
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.features.store import recipe_for
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report.find import records
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

_HEXADECIMAL = re.compile(r"[0-9a-f]{6,64}")
_RUN_ID = re.compile(r"[0-9a-f]{32}")

MAX_LISTED = 10
LONGEST = 60  # letters of a word that are compared with others
NEAR = 0.6


def find(workspace: Workspace, run: str, tracking_uri: str | None = None) -> TrialSpec:
    """Return the spec of a finished trial.

    Args:
        workspace: where it was trained, or imported.
        run: fingerprint or the first digits of one; the id of its MLflow run; or words of its name in a sweep.
        tracking_uri: of the MLflow store; None = that of the workspace.

    Raises:
        ConfigError, WorkspaceError: none or several are meant, it is not finished, its plug-in is not loaded, or its
            numbers would be others now.
    """
    ledger, name = Ledger(workspace), fingerprint(workspace, run, tracking_uri)
    if ledger.done(name) is None:
        raise WorkspaceError(
            f"trial {name[:12]} is not finished in {workspace.root}; let its sweep end first, or, where a search has "
            "stopped it early, train it by a sweep of its own"
        )
    spec = ledger.spec(name)
    for recipe in spec.maps:
        if recipe.plugin:
            registry.find("backbone", recipe.name.backbone, recipe.plugin)
    odd = [recipe.map for recipe in spec.maps if recipe != recipe_for(recipe.map, recipe.weights, recipe.via)]
    if odd or spec.fingerprint != name:
        what = f"reads {odd[0]}" if odd else "was trained"
        raise WorkspaceError(
            f"trial {name[:12]} {what} by code whose numbers were others; use the version of dfloc that trained it, "
            f"or train it again"
        )
    return spec


def fingerprint(
    workspace: Workspace, run: str, tracking_uri: str | None = None, *, any_repetition: bool = False
) -> str:
    """Return the fingerprint of the trial that is meant, finished or not, whatever code it is of.

    With `any_repetition` words of several trials that differ in draw and seed alone mean the first of them.

    Raises:
        ConfigError, WorkspaceError: none or several are meant.
    """
    ledger, run = Ledger(workspace), run.strip()
    is_hexadecimal = bool(_HEXADECIMAL.fullmatch(run))
    is_there = is_hexadecimal and any(workspace.trials.glob(f"{run}*"))
    if not is_hexadecimal or (not is_there and _is_word(workspace, run)):
        return _named(workspace, run, any_repetition)
    if _RUN_ID.fullmatch(run) and not is_there:
        return tracking.trial_of(workspace, run, tracking_uri)
    return ledger.find(run)


def called(workspace: Workspace, fingerprint: str) -> str:
    """Return a trial's first digits, and what the newest sweep that planned it calls it."""
    every = [trial for record in _records(workspace) for trial in (*record.replaced, *record.trials)]
    names = [trial.name for trial in every if trial.fingerprint == fingerprint]
    return f"{fingerprint[:12]} ({names[-1]})" if names else fingerprint[:12]


def repeated(workspace: Workspace, fingerprint: str) -> dict[tuple[int, int], str]:
    """Return the trials that differ from one in mixture draw and trial seed alone, itself among them.

    Returns:
        fingerprints by (draw, seed), as the sweep that planned most of them has them, of several the newest; empty
            where none planned it.
    """
    found = [
        {each.repetition: each.fingerprint for each in record.trials if each.recipe == trial.recipe}
        for record in reversed(_records(workspace))
        for trial in record.trials
        if trial.fingerprint == fingerprint
    ]
    return max(found, key=len, default={})


def rows(ledger: Ledger, fingerprint: str) -> pa.Table:
    """Return all rows of a trial, of every protocol; what a protocol does not have is null in its rows.

    Raises:
        WorkspaceError: it was never evaluated, or rows are damaged.
    """
    found = list(ledger.all_rows(fingerprint))
    if not found:
        raise WorkspaceError(
            f"trial {fingerprint[:12]} has no rows: it was not evaluated; let its sweep end, or, where it is finished, "
            f"score it: dfloc evaluate {fingerprint[:12]} --data DIR. What a search has stopped early has none"
        )
    return pa.concat_tables(found, promote_options="permissive")


class _Candidate(NamedTuple):
    """A trial under one of its names.

    Attributes:
        words: by which it is found.
        own: those of the name itself.
    """

    fingerprint: str
    name: str
    words: frozenset[str]
    own: frozenset[str]
    recipe: str
    sweep: str


def _records(workspace: Workspace) -> list[SweepRecord]:
    """Return the records that can be read, the newest last; of others it is said that their names are not known."""
    damaged: dict[str, str] = {}
    found = records(workspace.root, damaged)
    for why in damaged.values():
        logger.warning("names of trials are not known: %s", why)
    return found


def _is_word(workspace: Workspace, run: str) -> bool:
    """Return whether digits are a word of a name too, as a stage called `facade`."""
    found = records(workspace.root, {})
    return any(run in trial.called.words for record in found for trial in (*record.trials, *record.replaced))


def _named(workspace: Workspace, asked: str, any_repetition: bool) -> str:
    """Return the fingerprint of the one trial that all the words are of; replaced ones come last."""
    found, wanted = _records(workspace), {*trial_names.joined(asked).casefold().split()}
    speaking = [_candidate(trial, record) for record in found for trial in record.trials]
    replaced = [_candidate(trial, record) for record in found for trial in record.replaced]
    for candidates in (speaking, replaced):
        fitting = [one for one in candidates if one.words >= wanted]
        exact = [one for one in fitting if one.own == wanted]
        by_fingerprint = {one.fingerprint: one for one in exact or fitting}
        alike = any_repetition and len({one.recipe for one in by_fingerprint.values()}) == 1
        if len(by_fingerprint) == 1 or alike:
            return next(iter(by_fingerprint))
        if by_fingerprint:
            many = list(by_fingerprint.values())
            raise ConfigError(
                f'{len(many)} trials are called "{asked}"; add words, or name one by its digits: {_listed(many)}'
            )
    near = _near({one.fingerprint: one for one in speaking or replaced}.values(), wanted)
    hint = f"; near: {_listed(near)}" if near else ""
    raise ConfigError(
        f'no trial is called "{asked}" in {workspace.root}; expected words of a name as progress, MLflow and report '
        f"have it, a fingerprint (in small letters, its first six digits or more), or the id of an MLflow run{hint}"
    )


def _candidate(trial: PlannedTrial, record: SweepRecord) -> _Candidate:
    called = trial.called
    return _Candidate(trial.fingerprint, called.text, called.words, called.own, trial.recipe, record.sweep)


def _listed(candidates: Sequence[_Candidate]) -> str:
    listed = sorted(candidates, key=lambda one: one.name)[:MAX_LISTED]
    more = f", and {len(candidates) - MAX_LISTED} more" if len(candidates) > MAX_LISTED else ""
    return ", ".join(f'"{one.name}" {one.fingerprint[:12]} (of {one.sweep})' for one in listed) + more


def _near(candidates: Collection[_Candidate], wanted: Collection[str]) -> list[_Candidate]:
    """Return the candidates whose words are most like those wanted."""
    vocabulary = {word for one in candidates for word in one.words}
    likeness = {
        asked: {word: difflib.SequenceMatcher(None, asked[:LONGEST], word[:LONGEST]).ratio() for word in vocabulary}
        for asked in [*wanted][:MAX_LISTED]
    }

    def score(one: _Candidate) -> float:
        return sum(max(found[word] for word in one.words) for found in likeness.values()) / max(1, len(likeness))

    scored = sorted(((score(one), one) for one in candidates), key=lambda pair: -pair[0])
    return [one for value, one in scored[:MAX_LISTED] if value >= NEAR]
