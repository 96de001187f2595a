"""The images that `--data` names, or the built-in ones, imported once."""

from rich.console import Console

from dfloc import storage
from dfloc.data.manifest import FILE_NAME
from dfloc.storage import Workspace
from dfloc.sweep.data import Shards
from dfloc.sweep.prepare import ORIGIN, SweepRequest, data_folder, data_of, group_rows, make_tree, origin_of
from dfloc.sweep.progress import Display


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
