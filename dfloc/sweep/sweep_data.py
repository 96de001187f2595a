"""What is asked of a sweep, and its images: shards, a tree, folder pairs, or the mini-Dolos; imported once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from upath import UPath

from dfloc import storage
from dfloc.data import dolos, folder_pairs
from dfloc.data.generators import GENERATORS, WHOLE
from dfloc.data.importer import is_imported
from dfloc.data.manifest import FILE_NAME, DomainKind, domains_of
from dfloc.data.writer import GROUP_ROWS
from dfloc.errors import DataError
from dfloc.storage import Workspace
from dfloc.sweep.data import Data, Expected, Shards
from dfloc.sweep.progress import Display
from dfloc.tracking import EXPERIMENT

MINI = "mini"
ORIGIN = "origin.json"
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
        held = {name: {split: facts.images for split, facts in shards.facts(name).items()} for name in shards.kinds}
        families, kinds = {**shards.families, **_families(own)}, {**shards.kinds, **_kinds(own)}
        return Expected(shards.name, held | counted(own), {}, families, kinds)
    if options.data is not None:
        samples = [*dolos.scan(Path(options.data)), *own]
        return Expected(folder.name, counted(samples), {}, _families(own), _kinds(samples))
    built_in = (*GENERATORS, *WHOLE, dolos.REAL)
    counts = {f"{MINI}/{name}": MINI_COUNTS for name in built_in} | counted(own)
    whole: dict[str, DomainKind] = {f"{MINI}/{name}": "full" for name in WHOLE}
    return Expected(MINI, counts, {}, _families(own), whole | _kinds(own))


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


def import_tree(options: SweepRequest, workspace: Workspace, console: Console) -> Shards:
    """Import the tree of `--data`, or the mini-Dolos, and the pairs of `--own`, on the running Ray; return the shards.

    Raises:
        DataError: the tree cannot be used.
    """
    from dfloc.data.importer import import_samples

    with Display(console, "mini-Dolos, crops made", 0) as display:
        samples = make_tree(options, workspace, display.advance)
    folder = data_folder(options, workspace)
    fresh = not (folder / "manifest.json").exists()
    with Display(console, "images imported", len(samples)) as display:
        import_samples(samples, folder, group_rows=group_rows(options), on_progress=display.advance)
    if fresh:
        storage.put_json(folder / ORIGIN, origin_of(options))
        for name in (FILE_NAME, ORIGIN):
            for aside in folder.glob(f"{name}{storage.ASIDE}*"):
                storage.remove(aside)
    shards = data_of(options, workspace)
    assert isinstance(shards, Shards)
    return shards


def counted(samples: Sequence[dolos.Sample]) -> dict[str, dict[str, int]]:
    """Return domain -> split -> images."""
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        split = counts.setdefault(sample.domain, {})
        split[sample.split] = split.get(sample.split, 0) + 1
    return counts


def local(samples: Sequence[dolos.Sample]) -> list[str]:
    """Return the domains of partly generated images among those of some samples, each once."""
    return [domain for domain, kind in _kinds(samples).items() if kind == "local"]


def _kinds(samples: Sequence[dolos.Sample]) -> dict[str, DomainKind]:
    return {sample.domain: dolos.kind(sample.mask_kind) for sample in samples}


def _families(samples: Sequence[dolos.Sample]) -> dict[str, str]:
    return {sample.domain: sample.family for sample in samples if sample.family}
