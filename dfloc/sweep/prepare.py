"""What a user asked of a sweep -> the study, its data, and the plan."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dfloc.data import dolos
from dfloc.errors import ConfigError, DataError
from dfloc.features.store import FeatureStore
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.record import Starts, SweepRecord
from dfloc.report import checks, published
from dfloc.storage import Workspace
from dfloc.sweep import study_checks
from dfloc.sweep.data import Data
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Plan, make
from dfloc.sweep.resolve import resolve
from dfloc.sweep.search import Search
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_data import SweepRequest, data_folder, data_of, local, own_samples
from dfloc.sweep.sweep_file import SweepFile, find
from dfloc.sweep.validation_errors import blamed


@dataclass(frozen=True)
class Prepared:
    """A sweep ready to be run: its plan, its device, its data, and its search."""

    plan: Plan
    device: str
    data: Data
    search: Search | None = None


def prepare(options: SweepRequest, workspace: Workspace, data: Data, inventory: Inventory) -> Prepared:
    """Read the study, resolve it against the data, and plan it.

    Raises:
        ConfigError: anything in file or settings is wrong.
        DataError: fewer images than asked.
    """
    file = _chosen(options, workspace, data)
    study = expand(file, options.only, options.seeds, options.draws, options.limit, data)
    tables = published.load(unpublished=True) if study.ask.tables or study.ask.checks else {}
    with blamed(lambda: file.where("tables")):
        published.choose(tables, study.ask.tables)
    with blamed(lambda: file.where("checks")):
        for check in study.ask.checks:
            checks.known(check, tables)
        study_checks.refuse_checks(study)
    resolved = resolve(study, data, inventory, preset=options.chosen_preset, limit=options.limit)
    ledger, search = Ledger(workspace), None
    if study.draw and len(resolved.cover) == len(study.cover):
        old = Starts(workspace.sweep(resolved.record.sweep)).all
        search = Search(study, resolved, ledger, [*old.values()])
        resolved = search.resolved(options.retry_failed)
    else:
        resolved = replace(resolved, cover=())
    plan = make(
        resolved,
        ledger,
        FeatureStore(workspace.features, inventory.on_load),
        workspace.root / "sweeps",
        options.retry_failed,
    )
    return Prepared(plan, study.ask.device, data, search)


def merged(options: SweepRequest) -> str:
    """Return the sweep that options name as a file of its own: preset and settings merged in, `${...}` resolved.

    Raises:
        ConfigError, DataError: as for `prepare`.
    """
    workspace = Workspace(options.workspace, create=False)
    data = data_of(options, workspace)
    file = _chosen(options, workspace, data)
    expand(file, options.only, options.seeds, options.draws, options.limit, data)
    said = {"seeds": options.seeds, "draws": options.draws}
    file.values |= {key: value for key, value in said.items() if value is not None}
    return file.written()


def _chosen(options: SweepRequest, workspace: Workspace, data: Data) -> SweepFile:
    file = SweepFile(find(options.name))
    asked = file.domains_asked(options.chosen_preset, options.settings)
    with blamed(lambda: file.giver("domains")):
        domains = _domains(asked, data)
    domains = list(dict.fromkeys([*domains, *local(own_samples(options, workspace))]))
    file.choose(options.chosen_preset, options.settings, domains)
    file.values |= {"device": options.device} if options.device else {}
    return file


def lacking(options: SweepRequest, workspace: Workspace, prepared: Prepared) -> Iterator[str]:
    """Yield what `--dry-run` says of data that are not there: which, and what is finished that rests on them."""
    data = prepared.data
    if data.present:
        return
    what = f"{data.name}, a tree that is not imported yet" if options.data else f"{data.name.capitalize()}, not present"
    yield f"data: {what}; done: unknown"
    record, ledger = SweepRecord.load(workspace.sweep(prepared.plan.record.sweep)), Ledger(workspace)
    planned = {trial.fingerprint for trial in record.trials} if record else set()
    if finished := sum(ledger.state(fingerprint) == "done" for fingerprint in planned):
        yield f"the data are imported first; {finished} trials here are finished and stay if the data come out the same"


def resting(options: SweepRequest, workspace: Workspace, record: SweepRecord) -> Iterator[str]:
    """Yield the files and folders that a finished study rests on, absolute or relative to the workspace."""
    yield str(find(options.name).absolute())
    if options.data is not None:
        yield str(Path(options.data).absolute() / "manifest.json")  # a tree becomes a folder of shards by it
    yield from (str(data_folder(options, workspace)), *WeightsIndex(workspace).files())
    yield from ("workspace.json", "sweeps", "lists", "weights")
    ledger, names = Ledger(workspace), set[str]()
    for trial in (*record.trials, *record.replaced):
        name, start = trial.fingerprint, trial.spec.start
        while name not in names:
            names.add(name)
            names |= {*trial.parents} if trial.spec.parts else set()
            if start:
                name = start.parent
                start = ledger.spec(name).start if ledger.done(name) else None
    yield from (f"trials/{name}" for name in sorted(names))


def _domains(asked: object, data: Data) -> list[str]:
    """Return the study's domains by their full names."""
    if isinstance(asked, str):
        head, _, number = asked.partition(":")
        if head == "data" and (not number or (number.isascii() and number.isdecimal())):
            least = "a study needs two local domains at least"
            if number.strip("0") in ("", "1") and number:
                raise ConfigError(f"{least}, but {asked} asks for {number}; ask for data:2 or more")
            if len(data.local) < 2:
                raise DataError(f"{least}; the data {data.name} have {len(data.local)}")
            return list(data.local[: int(number[:9]) if number else None])
        asked = [asked]
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise ConfigError(f'domains should be a list of names, "data" or "data:2", but it is {asked!r}')
    unmasked = {name for name, kind in data.kinds.items() if kind != "local"}
    unmasked |= {name for name in dolos.COUNTS if dolos.named_kind(name) != "local"} - {*data.local}
    whole = next((name for name in asked if name in unmasked), None)
    if whole:
        raise ConfigError(f"{whole} has no masks: the domains of a study are those of partly generated images")
    if not data.present and not data.local:
        return asked
    return [name if name in dolos.COUNTS else dolos.resolve(name, data.local) for name in asked]
