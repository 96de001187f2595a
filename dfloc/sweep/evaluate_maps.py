"""Maps that another tool made, on the images that an evaluation is asked for: no trial, and no Ray but to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from rich.console import Console

from dfloc.engine import external_maps
from dfloc.metrics import protocols
from dfloc.storage import Workspace
from dfloc.sweep import evaluation_data, scores
from dfloc.sweep.data import Shards
from dfloc.sweep.evaluation_data import ImagesRequest
from dfloc.sweep.machine import locked
from dfloc.sweep.scores import DomainScore


@dataclass(frozen=True, kw_only=True)
class MapsRequest(ImagesRequest):
    """What the command line says; `maps` is the folder that they lie in."""

    maps: Path
    protocol: str
    wait: bool = False


class ScoredMaps(NamedTuple):
    """What the rows say of each domain, and the rows of all of them."""

    lines: list[DomainScore]
    rows: pa.Table


def score(request: MapsRequest, console: Console) -> ScoredMaps:
    """Score a folder of maps on every domain that is asked for.

    Raises:
        DflocError: bad input, another driver where images must be imported, or maps that cannot be used.
    """
    protocols.find(request.protocol)
    data = _data(request, console)
    lists = evaluation_data.lists(request, data)
    tables = external_maps.score(request.maps, lists, data.folder, request.protocol)
    lines = [scores.of_rows(rows, request.protocol, domain) for domain, rows in tables.items()]
    return ScoredMaps(lines, pa.concat_tables(tables.values()))


def _data(request: MapsRequest, console: Console) -> Shards:
    workspace = Workspace(request.workspace, create=False)
    found = evaluation_data.find(request, workspace)
    if found is not None:
        return found
    with locked(Workspace(request.workspace), console, request.wait):
        return evaluation_data.bring(request, workspace, console)
