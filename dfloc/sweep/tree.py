"""The images that `--data` names, or the built-in ones, imported once."""

from rich.console import Console

from dfloc import storage
from dfloc.storage import Workspace
from dfloc.sweep.cluster import Cluster
from dfloc.sweep.data import Shards
from dfloc.sweep.prepare import ORIGIN, Options, data_folder, data_of, make_tree, origin_of
from dfloc.sweep.progress import Display


def import_tree(options: Options, workspace: Workspace, ray: Cluster, console: Console) -> Shards:
    """Return the shards; make the mini-Dolos, or import the tree, where there are none yet.

    Raises:
        DataError: the tree cannot be used.
    """
    data = data_of(options, workspace)
    if isinstance(data, Shards):
        return data
    from dfloc.data.importer import import_samples

    with Display(console, "mini-Dolos, crops made", 0) as display:
        samples = make_tree(options, workspace, display.advance)
    ray.start()
    folder = data_folder(options, workspace)
    with Display(console, "images imported", len(samples)) as display:
        import_samples(samples, folder, on_progress=display.advance)
    storage.put_json(folder / ORIGIN, origin_of(options))
    imported = data_of(options, workspace)
    assert isinstance(imported, Shards)
    return imported
