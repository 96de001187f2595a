"""What a workspace knows that a plan rests on: digests of weights, and trials that are finished."""

from collections.abc import Callable, Mapping, Sequence

from dfloc.config import MapRecipe
from dfloc.errors import ConfigError
from dfloc.features.store import recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.record import PlannedTrial
from dfloc.registry import backbone
from dfloc.storage import Workspace
from dfloc.sweep.space import Cell


class Known:
    """What is asked of a workspace while cells become trials.

    Args:
        workspace: the ledger and the index of weights are its.
        load: look into weights that are not known yet; else their word stands for them, and nothing is done with them.
        on_load: told which weights are about to be read.

    Attributes:
        words: digest of a backbone's weights -> the word by which they were asked for.
    """

    def __init__(self, workspace: Workspace, load: bool = True, on_load: Callable[[str], None] | None = None):
        self.words: dict[str, str] = {}
        self._index = WeightsIndex(workspace)
        self._ledger = Ledger(workspace)
        self._load, self._on_load = load, on_load
        self._digests: dict[tuple[str, str], str] = {}

    def digest(self, backbone: str, word: str) -> str:
        """Return what stands for a backbone's weights in a recipe (`WeightsIndex.digest`)."""
        if (backbone, word) not in self._digests:
            digest = self._index.digest(backbone, word, self._load, self._on_load)
            self._digests[backbone, word] = digest
            self.words[digest] = word
        return self._digests[backbone, word]

    def recipes(self, maps: Sequence[str], weights: str | Mapping[str, str] | None) -> tuple[MapRecipe, ...]:
        """Return the recipes of maps.

        Args:
            maps: `<backbone>/<map>` each.
            weights: of every backbone that has any, or by backbone; None: each one's default.

        Raises:
            ConfigError: weights for backbones that have none, or are not known.
        """
        rows = {name: backbone(name.partition("/")[0]) for name in maps}
        if isinstance(weights, str) and all(row.weights == "none" for row in rows.values()):
            raise ConfigError(
                f'trial.weights is "{weights}", but no backbone of {", ".join(maps)} has weights; leave it out'
            )
        for name in weights if isinstance(weights, Mapping) else ():
            backbone(name)
        recipes = []
        for name, row in rows.items():
            head = name.partition("/")[0]
            word = weights.get(head) if isinstance(weights, Mapping) else weights
            recipes.append(
                recipe_for(name, "none" if row.weights == "none" else self.digest(head, word or row.weights))
            )
        return tuple(recipes)

    def start(self, cell: Cell) -> PlannedTrial | None:
        """Return the finished trial that a cell starts from; None: it starts from none.

        Raises:
            WorkspaceError: no trial has that fingerprint.
            ConfigError: it is not finished, or its weights are gone.
        """
        if cell.start is None:
            return None
        fingerprint = self._ledger.find(cell.start)
        if not self._ledger.has_weights(fingerprint):
            raise ConfigError(
                f"stage {cell.stage} starts from trial {cell.start}, which has no weights; train it first"
            )
        return PlannedTrial(fingerprint=fingerprint, stage="", spec=self._ledger.spec(fingerprint))
