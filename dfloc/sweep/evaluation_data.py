"""Which images an evaluation is asked for: shards, a tree or folder pairs, imported once."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from dfloc.data import dolos, folder_pairs
from dfloc.data.dolos import Sample
from dfloc.data.importer import import_samples, is_imported
from dfloc.data.manifest import SampleRef, Split, domains_of
from dfloc.errors import ConfigError, DataError
from dfloc.storage import Workspace
from dfloc.sweep import sweep_data
from dfloc.sweep.data import Shards
from dfloc.sweep.progress import Display
from dfloc.sweep.sweep_data import SweepRequest, import_tree

PAIRS = "pairs"  # data name of folder pairs that were imported to be evaluated

Lists = dict[str, Sequence[SampleRef]]


@dataclass(frozen=True, kw_only=True)
class ImagesRequest:
    """What the command line says of images.

    Attributes:
        data: folder of shards, or a tree, which is imported once.
        own: instead of `data`, folder pairs as `folder_pairs.read_pair` reads them; all images of one without splits
            are test images.
        domains: of `data`, full or short names; none: every local domain that has the split.
    """

    workspace: str
    data: str | None = None
    own: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    split: Split = "test"


def find(asked: ImagesRequest, workspace: Workspace) -> Shards | None:
    """Return the shards that hold the images; None where they must be imported first.

    Raises:
        ConfigError: it is not said which images.
        DataError: they are not there.
    """
    if (asked.data is None) == (not asked.own):
        raise ConfigError("say which images: --data DIR (shards or a tree), or --own mine/sd=FOLDER,fake=white")
    if asked.own:
        folder = workspace.shards / PAIRS
        return Shards(folder, PAIRS) if is_imported(_own(asked, workspace), folder) else None
    found = sweep_data.data_of(_options(asked), workspace)
    return found if isinstance(found, Shards) else None


def bring(asked: ImagesRequest, workspace: Workspace, console: Console) -> Shards:
    """Import what `find` did not find, on the Ray that runs, or on one of its own; return the shards.

    Raises:
        DataError: over 1 % of the images cannot be used, or the tree cannot.
    """
    if not asked.own:
        return import_tree(_options(asked), workspace, console)
    samples, folder = _own(asked, workspace), workspace.shards / PAIRS
    with Display(console, "images imported", len(samples)) as display:
        done = import_samples(samples, folder, allow_overlap=True, on_progress=display.advance)
    if done.rejected:
        console.print(f"{len(done.rejected)} images rejected; {folder / 'rejected.csv'} says why", highlight=False)
    for note in done.manifest.notes:
        if note.startswith(tuple(f"{sample.domain}:" for sample in samples)):
            console.print(f"Warning: {note}", highlight=False)
    return Shards(folder, PAIRS)


def sources(asked: ImagesRequest, workspace: Workspace, data: Shards | None) -> list[str]:
    """Return paths outside of the workspace that show whether a node sees the images."""
    if asked.own:
        own = [] if data else _own(asked, workspace)
        return list({sample.domain: str(sample.image.absolute()) for sample in own}.values())
    options = _options(asked)
    return sweep_data.sources(options, workspace, data or sweep_data.data_of(options, workspace))


def lists(asked: ImagesRequest, data: Shards) -> Lists:
    """Return the samples of each domain that is asked for.

    Raises:
        ConfigError: a domain is unknown.
        DataError: a domain, or all of them, have no such split.
    """
    domains = data.manifest.domains
    known = (
        {sample.domain for sample in folder_pairs.read_pairs(asked.own, "test", domains)} if asked.own else set(domains)
    )
    names = list(dict.fromkeys(dolos.resolve(name, known) for name in asked.domains))
    if not names:
        names = [name for name in data.local if name in known and asked.split in domains[name].splits]
    if not names:
        raise DataError(f"{data.folder} has no local domain with a split {asked.split}; see dfloc data check")
    return {name: data.samples(name, asked.split) for name in names}


def _options(asked: ImagesRequest) -> SweepRequest:
    return SweepRequest(name="evaluate", workspace=asked.workspace, data=asked.data)


def _own(asked: ImagesRequest, workspace: Workspace) -> list[Sample]:
    return folder_pairs.read_pairs(asked.own, "test", domains_of(workspace.shards / PAIRS))
