"""Which trial is meant: by its fingerprint, its run in MLflow, or the name that a sweep calls it by."""

import difflib
import re

from dfloc import registry, tracking
from dfloc.config import TrialSpec
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.features.store import recipe_for
from dfloc.ledger import Ledger
from dfloc.report.find import records
from dfloc.storage import Workspace

_HEXADECIMAL = re.compile(r"[0-9a-f]{6,64}")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def find(workspace: Workspace, run: str, tracking_uri: str | None = None) -> TrialSpec:
    """Return the spec of a finished trial.

    Args:
        workspace: where it was trained, or imported.
        run: fingerprint or the first digits of one; the id of its MLflow run; or its name in a sweep.
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
            registry.find("backbone", recipe.map.partition("/")[0], recipe.plugin)
    odd = [recipe.map for recipe in spec.maps if recipe != recipe_for(recipe.map, recipe.weights, recipe.via)]
    if odd or spec.fingerprint != name:
        what = f"reads {odd[0]}" if odd else "was trained"
        raise WorkspaceError(
            f"trial {name[:12]} {what} by code whose numbers were others; use the version of dfloc that trained it, "
            f"or train it again"
        )
    return spec


def fingerprint(workspace: Workspace, run: str, tracking_uri: str | None = None) -> str:
    """Return the fingerprint of the trial that is meant, finished or not, whatever code it is of; args as `find`.

    Raises:
        ConfigError, WorkspaceError: none or several are meant.
    """
    ledger, run = Ledger(workspace), run.strip()
    if not _HEXADECIMAL.fullmatch(run):
        return _named(workspace, run)
    if _RUN_ID.fullmatch(run) and not any(workspace.trials.glob(f"{run}*")):
        return tracking.trial_of(workspace, run, tracking_uri)
    return ledger.find(run)


def _named(workspace: Workspace, name: str) -> str:
    """Return the fingerprint of the one trial that any sweep of the workspace calls so."""
    found: dict[str, str] = {}
    names: set[str] = set()
    for record in records(workspace.root):
        for trial in record.trials:
            names.add(trial.name)
            if trial.name == name:
                found.setdefault(trial.fingerprint, record.sweep)
    if len(found) > 1:
        listed = ", ".join(f"{fingerprint[:12]} (of {sweep})" for fingerprint, sweep in found.items())
        raise ConfigError(f'{len(found)} trials are called "{name}": {listed}; name one by its digits')
    if not found:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3)
        hint = "; near: " + ", ".join(f'"{each}"' for each in near) if near else ""
        raise ConfigError(
            f'no trial is called "{name}" in {workspace.root}; expected a fingerprint (in small letters, its '
            f"first six digits or more), the id of an MLflow run, or a name as progress and report have it{hint}"
        )
    return next(iter(found))
