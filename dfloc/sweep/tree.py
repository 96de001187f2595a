"""The images that `--data` names, or the built-in ones, imported once."""

from rich.console import Console

from dfloc import storage
from dfloc.storage import Workspace
from dfloc.sweep.data import Shards
from dfloc.sweep.prepare import ORIGIN, Options, data_folder, data_of, make_tree, origin_of
from dfloc.sweep.progress import Display


def import_tree(options: Options, workspace: Workspace, console: Console) -> Shards:
    """Make the mini-Dolos, or import the tree that `--data` names, on the Ray that is running; return the shards.

    Raises:
        DataError: the tree cannot be used.
    """
    from dfloc.data.importer import import_samples

    with Display(console, "mini-Dolos, crops made", 0) as display:
        samples = make_tree(options, workspace, display.advance)
    folder = data_folder(options, workspace)
    with Display(console, "images imported", len(samples)) as display:
        import_samples(samples, folder, on_progress=display.advance)
    storage.put_json(folder / ORIGIN, origin_of(options))
    shards = data_of(options, workspace)
    assert isinstance(shards, Shards)
    return shards
