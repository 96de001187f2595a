"""What a study names that none of its trials would read."""

from collections.abc import Mapping

from dfloc.errors import ConfigError
from dfloc.ids import MapName
from dfloc.sweep import counts
from dfloc.sweep.cell import Cell
from dfloc.sweep.data import Data
from dfloc.sweep.fields import words_in
from dfloc.sweep.study import Study


def refuse(study: Study, data: Data) -> None:
    """Return if every weight and every number of images that is named would be read.

    A stage that `--only` leaves out reads what it names, and so does a value that an axis does not have now.

    Raises:
        ConfigError: says what would not, and where it was given.
    """
    cells = (*study.cells, *study.cover)
    backbones = {MapName.of(word).backbone for word in words_in(study.ask.model_dump())}
    for cell in cells:
        weights = cell.trial.weights
        for name in weights if isinstance(weights, Mapping) else ():
            if name not in backbones:
                with cell.blames("trial.weights"):
                    raise ConfigError(f"weights for {name}, but no trial reads a map of it; leave {name} out")
    _refuse_numbers(cells, study, data)


def _refuse_numbers(cells: tuple[Cell, ...], study: Study, data: Data) -> None:
    """Refuse a number for a domain that no cell of the same case trains, or validates, on."""
    read, named = set[tuple[str, ...]](), dict[tuple[str, ...], Cell]()
    for cell in cells:
        train = cell.train
        for field, asked, of in (("count", train.count, train.domains), ("valid", train.valid, train.judges)):
            if isinstance(asked, Mapping) and of not in ("all", "all_but_held_out", *cell.given.values()):
                found = counts.names(of, cell.stage, cell.axes, study.ask.domains, data)
                read |= {(cell.stage, cell.case, field, name) for name in found}
                keys = asked.keys() - {"first", "rest"}
                named |= {(cell.stage, cell.case, field, name): cell for name in sorted(keys)}
    for (stage, case, field, name), cell in named.items():
        if (stage, case, field, name) not in read:
            what = "trains" if field == "count" else "validates"
            with cell.blames(f"train.{field}"):
                raise ConfigError(f"train.{field} names {name}, but {cell.name} {what} on others; leave {name} out")
