"""What a user asked of a sweep -> the study, its data, and the plan."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upath import UPath

from dfloc import storage
from dfloc.data import dolos, folder_pairs
from dfloc.data.generators import GENERATORS
from dfloc.data.importer import is_imported
from dfloc.data.manifest import domains_of
from dfloc.data.writer import GROUP_ROWS
from dfloc.errors import ConfigError, DataError
from dfloc.features.store import FeatureStore
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.record import Starts, SweepRecord
from dfloc.report import published
from dfloc.storage import Workspace
from dfloc.sweep.data import Data, Expected, Shards
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.plan import Plan, make
from dfloc.sweep.resolve import Resolved, resolve
from dfloc.sweep.search import Search
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile, find
from dfloc.sweep.validation_errors import blamed
from dfloc.tracking import EXPERIMENT

MINI = "mini"
ORIGIN = "origin.json"
UNMASKED = frozenset({"real", "p2"})
MINI_GROUP_ROWS = 4  # mini studies read a few images of each domain, and a row group passes through a backbone whole
MINI_COUNTS = {"train": 160, "valid": 40, "test": 40}
OWN_COUNTS = {"train": 9000, "valid": 900, "test": 900}  # a domain that was not published is planned like most of Dolos


@dataclass(frozen=True)
class SweepRequest:
    """What the command line says; None = not said.

    Attributes:
        data: folder of shards or a tree; None = the built-in mini-Dolos.
        own: folder pairs, each a domain more, as `folder_pairs.read_pair` reads them.
        settings: `key=value`, merged over file and preset.
        only: stages to keep, with those they start from.
        address: of a running Ray; None = one of this process.
        tracking: MLflow's URI; None = $MLFLOW_TRACKING_URI, else a store in the workspace.
        experiment: MLflow's name for where the runs are put together.
        new_identity: a workspace that is a copy gets an id of its own.
    """

    name: str
    workspace: str
    data: str | None = None
    own: tuple[str, ...] = ()
    preset: str | None = None
    settings: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seeds: int | None = None
    draws: int | None = None
    limit: int | None = None
    device: str | None = None
    max_concurrent: int | None = None
    gpus_per_trial: float = 1.0
    address: str | None = None
    tracking: str | None = None
    experiment: str = EXPERIMENT
    new_identity: bool = False
    retry_failed: bool = False
    wait: bool = False

    @property
    def chosen_preset(self) -> str:
        """The preset asked for; without one, mini on built-in data and paper on a user's own."""
        return self.preset or ("paper" if self.data else "mini")


@dataclass(frozen=True)
class Prepared:
    """A sweep ready to be run: its plan, the samples of its lists, its data folder, its device, and its search."""

    plan: Plan
    resolved: Resolved
    device: str
    data: Data
    search: Search | None = None


def data_folder(options: SweepRequest, workspace: Workspace) -> UPath:
    """Return where the shards are, or will be once they are made or imported.

    Raises:
        DataError: `--data` names nothing that is there.
    """
    if options.data is None:
        return workspace.shards / MINI
    if not options.data:
        raise DataError('--data "" names no folder; name one, or leave --data out for the built-in data')
    given = UPath(options.data)
    if not given.is_dir():
        raise DataError(f"--data {options.data} should be a folder of shards or a tree of images, but there is none")
    if given.protocol in ("", "file", "local"):
        given = UPath(Path(given.path).resolve())
    if (given / "manifest.json").exists():
        return given
    folder = workspace.shards / given.name
    there = storage.get_json(folder / ORIGIN)["tree"] if (folder / ORIGIN).exists() else None
    if (folder / "manifest.json").exists() and there != origin_of(options)["tree"]:
        raise DataError(
            f"{folder} holds the images of {there or 'something else'}, not of {options.data}; rename the tree, "
            f"or import it yourself: dfloc data import {options.data} --out DIR"
        )
    return folder


def origin_of(options: SweepRequest) -> dict[str, str]:
    """Return what is written beside shards that a sweep imported: the tree that they come from."""
    return {"tree": str(Path(options.data).resolve()) if options.data else "built-in"}


def data_of(options: SweepRequest, workspace: Workspace) -> Data:
    """Return the shards, or what they are expected to hold once everything is imported."""
    if options.data is None and options.chosen_preset == "paper":
        return Expected("dolos", {}, OWN_COUNTS)
    folder, own = data_folder(options, workspace), own_samples(options, workspace)
    if (folder / "manifest.json").exists():
        shards = Shards(folder, folder.parent.name if folder.name == "shards" else folder.name)
        if is_imported(own, folder, group_rows(options)):
            return shards
        held = {name: {split: facts.images for split, facts in shards.facts(name).items()} for name in shards.local}
        return Expected(shards.name, held | _counted(own), {}, {**shards.families, **_families(own)})
    if options.data is not None:
        return Expected(folder.name, _counted([*dolos.scan(Path(options.data)), *own]), {}, _families(own))
    counts = {f"{MINI}/{name}": MINI_COUNTS for name in GENERATORS} | _counted(own)
    return Expected(MINI, counts, {}, _families(own))


def own_samples(options: SweepRequest, workspace: Workspace) -> list[dolos.Sample]:
    """Return the samples of the folder pairs that `--own` names."""
    return folder_pairs.read_pairs(options.own, held=domains_of(data_folder(options, workspace))) if options.own else []


def sources(options: SweepRequest, workspace: Workspace, data: Data) -> list[str]:
    """Return paths outside of the workspace that show whether a node sees the shards, or what is imported first."""
    folder = data_folder(options, workspace)
    if data.present:
        return [] if folder.parent == workspace.shards else [str(folder / "manifest.json")]
    own = {sample.domain: str(sample.image.absolute()) for sample in own_samples(options, workspace)}
    whole = options.data is not None and not (folder / "manifest.json").exists()
    return [*([str(min(Path(str(options.data)).absolute().iterdir()))] if whole else []), *own.values()]


def prepare(options: SweepRequest, workspace: Workspace, data: Data, inventory: Inventory) -> Prepared:
    """Read the study, resolve it against the data, and plan it.

    Raises:
        ConfigError: anything in file or settings is wrong.
        DataError: fewer images than asked.
    """
    file = _chosen(options, workspace, data)
    study = expand(file, options.only, options.seeds, options.draws, options.limit, data)
    with blamed(lambda: file.where("tables")):
        published.choose(published.load(unpublished=True) if study.ask.tables else {}, study.ask.tables)
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
    return Prepared(plan, resolved, study.ask.device, data, search)


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
    domains = list(dict.fromkeys([*domains, *_counted(own_samples(options, workspace))]))
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
            if start:
                name = start.parent
                start = ledger.spec(name).start if ledger.done(name) else None
    yield from (f"trials/{name}" for name in sorted(names))


def group_rows(options: SweepRequest) -> int:
    """Return the most rows of a row group of the shards that a sweep makes."""
    return MINI_GROUP_ROWS if options.data is None else GROUP_ROWS


def make_tree(
    options: SweepRequest, workspace: Workspace, on_progress: Callable[[int, int], None]
) -> list[dolos.Sample]:
    """Return the samples that are to be imported: those of the tree, or of the mini-Dolos, and of the folder pairs."""
    own = own_samples(options, workspace)
    if (data_folder(options, workspace) / "manifest.json").exists():
        return own
    if options.data is not None:
        return [*dolos.scan(Path(options.data)), *own]
    from dfloc.data import mini

    tree = Path((workspace.root / MINI).path)
    train, valid, test = MINI_COUNTS.values()
    mini.make(tree, train=train, valid=valid, test=test, on_progress=on_progress)
    return [*dolos.scan(tree), *own]


def _counted(samples: Sequence[dolos.Sample]) -> dict[str, dict[str, int]]:
    """Return domain -> split -> images of the local domains."""
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        if dolos.kind(sample.mask_kind) == "local":
            split = counts.setdefault(sample.domain, {})
            split[sample.split] = split.get(sample.split, 0) + 1
    return counts


def _families(samples: Sequence[dolos.Sample]) -> dict[str, str]:
    return {sample.domain: sample.family for sample in samples if sample.family}


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
    whole = next((name for name in asked if name in dolos.COUNTS and name.rpartition("/")[2] in UNMASKED), None)
    if whole:
        raise ConfigError(f"{whole} has no masks: the domains of a study are those of partly generated images")
    if not data.present and not data.local:
        return asked
    return [name if name in dolos.COUNTS else dolos.resolve(name, data.local) for name in asked]
