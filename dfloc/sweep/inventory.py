"""What a workspace knows that a plan rests on: digests of weights, and trials that are finished."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from upath import UPath

from dfloc import registry
from dfloc.config import DecoderSpec, MapRecipe, TrialSpec
from dfloc.data import dolos, sample_lists
from dfloc.errors import ConfigError
from dfloc.features.store import recipe_for
from dfloc.features.weights import WeightsIndex, trained
from dfloc.ids import MapName
from dfloc.ledger import Ledger
from dfloc.models import classifiers, smp
from dfloc.planned import PlannedTrial
from dfloc.registry import backbone
from dfloc.storage import Workspace
from dfloc.sweep import lookup
from dfloc.sweep.cell import Cell

MAX_VIA = 4096  # pixels of a side; every image takes the square of it in memory


class Inventory:
    """What is asked of a workspace while cells become trials.

    Args:
        workspace: the ledger and the index of weights are its.
        load: look into weights that are not known yet; else their word stands for them, and nothing is done with them.
        on_load: told what is about to be read.

    Attributes:
        words: digest of a backbone's weights -> the word by which they were asked for.
    """

    def __init__(self, workspace: Workspace, load: bool = True, on_load: Callable[[str], None] | None = None):
        self.words: dict[str, str] = {}
        self._workspace = workspace
        self._index = WeightsIndex(workspace)
        self._ledger = Ledger(workspace)
        self.on_load = on_load
        self._load = load
        self._digests: dict[tuple[str, str], str] = {}
        self._idle: dict[str, str | None] = {}
        self._specs: dict[str, TrialSpec] = {}

    def digest(self, backbone: str, word: str) -> str:
        """Return what stands for a backbone's weights in a recipe (`WeightsIndex.digest`)."""
        if (backbone, word) not in self._digests:
            digest = self._index.digest(backbone, word, self._load, self.on_load)
            self._digests[backbone, word] = digest
            loaded = self._load and digest != word
            self.words[digest] = self._index.source(backbone, digest) if loaded else word
        return self._digests[backbone, word]

    def recipes_of(self, cell: Cell) -> tuple[MapRecipe, ...]:
        """Return the recipes of a cell's maps.

        Raises:
            ConfigError: as for `recipes`, or no such map; says where that was given.
        """
        ask = cell.trial
        with cell.blames("trial.maps"):
            for name in ask.maps:
                registry.map_spec(name)
        with cell.blames("trial.input"):
            for name in ask.maps:
                _via(MapName.of(name).backbone, ask.input)
        with cell.blames("trial.weights", "trial.maps"):
            return self.recipes(ask.maps, ask.weights, ask.input)

    def recipes(
        self, maps: Sequence[str], weights: str | Mapping[str, str] | None, sizes: Sequence[int] | None = None
    ) -> tuple[MapRecipe, ...]:
        """Return the recipes of maps.

        Args:
            maps: `<backbone>/<map>` each.
            weights: of every backbone that has any, or by backbone; None: each one's default.
            sizes: that an image passes on its way in, the last one the backbone's own; None: only that one.

        Raises:
            ConfigError: an image cannot pass those sizes, weights for a backbone that is not known, or no such weights.
        """
        recipes = []
        for name in weights if isinstance(weights, Mapping) else ():
            backbone(name)
        for name in maps:
            head = MapName.of(name).backbone
            via = _via(head, sizes)
            word = weights.get(head) if isinstance(weights, Mapping) else weights
            default = backbone(head).weights
            if default == "none":
                self._idle.setdefault(word or "none", head)
                recipes.append(recipe_for(name, via=via))
            else:
                self._idle[word or "none"] = None
                recipes.append(recipe_for(name, self.digest(head, word or default), via))
        return tuple(recipes)

    def refuse_idle(self, words: Iterable[str]) -> None:
        """Refuse a word for weights that no backbone of the study has read.

        Args:
            words: of the whole study; a backbone that `--only` leaves out would have read it.

        Raises:
            ConfigError: names the word.
        """
        for word, head in self._idle.items():
            if head and word != "none" and not any(_weighted(one) for one in words):
                raise ConfigError(
                    f'trial.weights is "{word}", but no backbone of the study has weights ({head} has none)'
                )

    def encoder(self, spec: DecoderSpec) -> str | None:
        """Return what stands for the weights that a segmenter's encoder, or a classifier, starts from.

        None: its trial's seed draws them.

        Raises:
            ConfigError: the library cannot build such a model, or there are no such weights of it.
        """
        if library := {"timm": classifiers, "smp": smp}.get(spec.name):
            library.check(spec)
        word = spec.weights
        if word is None or word == "random":
            return None
        return self.digest("".join(trained(spec)), word)

    def start(self, cell: Cell) -> PlannedTrial | None:
        """Return the finished trial that a cell starts from; None: it starts from none.

        Raises:
            WorkspaceError: no trial is meant, or its numbers would be others now.
            ConfigError: several are meant, its weights are gone, or its plug-in is not loaded.
        """
        if cell.start is None:
            return None
        spec = self._begun(cell.start)
        if not self._ledger.has_weights(spec.fingerprint):
            raise ConfigError(
                f"stage {cell.stage} starts from trial {cell.start}, whose weights are gone; train it again"
            )
        return PlannedTrial(fingerprint=spec.fingerprint, stage="", spec=spec)

    def stems(self, run: str, data: Sequence[UPath] = ()) -> set[str]:
        """Return the photographs that a finished trial and its ancestors trained on, as far as shards have to say them.

        Raises:
            ConfigError: a list of them is not in the workspace, or not what its images show.
        """
        spec, found = self._begun(run), set()
        while True:
            shown = sample_lists.stems(self._workspace, spec.train.digest, data)
            if shown is None:
                raise ConfigError(
                    f"pairing disjoint: on which source images trial {run} was trained is not known; use pairing stems"
                )
            found |= set(shown.values())
            if spec.start is None:
                return found
            spec = self._ledger.spec(spec.start.parent)

    def _begun(self, run: str) -> TrialSpec:
        if run not in self._specs:
            spec = lookup.find(self._workspace, run)
            if spec.parts:
                names = ", ".join(part.parent[:12] for part in spec.parts.values())
                raise ConfigError(f"trial {run} is composed of others and has no weights; start from one of {names}")
            registry.find("decoder", spec.decoder.name, spec.decoder.plugin)
            self._specs[run] = spec
        return self._specs[run]


def _via(head: str, sizes: Sequence[int] | None) -> int | None:
    """Return the size to which an image is brought before the backbone's own."""
    row = backbone(head)
    if sizes is None or (len(sizes) == 1 and sizes[0] == row.input_size):
        return None
    if sizes[-1] != row.input_size:
        raise ConfigError(f"input {list(sizes)}: {head} sees {row.input_size} pixels, which stands last")
    if not row.vias:
        raise ConfigError(f"input {list(sizes)}: {head} sees the stored image resized at once; leave input out")
    if sizes[0] > MAX_VIA:
        raise ConfigError(f"input {list(sizes)}: the size on the way is at most {MAX_VIA} pixels")
    return sizes[0]


def start_notes(cell: Cell, spec: TrialSpec, families: Mapping[str, str]) -> Iterator[str]:
    """Yield what a user must be told of a cell that, or whose ancestor, starts from a finished trial; `spec` is its."""
    yield f"stage {cell.stage}: maps and decoder of trial {cell.begun} ({', '.join(each.map for each in spec.maps)})"
    held_out = cell.axes.get("held_out")
    said = {**spec.lineage.families, **families}
    base = {dolos.family(domain, said) for domain in spec.lineage.base}
    if held_out and dolos.family(str(held_out), said) in base:
        yield f"stage {cell.stage}: {held_out} is held out, but trial {cell.begun} or an ancestor was trained on it"
    if not base:
        yield f"stage {cell.stage}: what trial {cell.begun} was trained on is not known: no domain counts as new"


def _weighted(word: str) -> bool:
    """Return whether a word is a map, or a backbone, with weights."""
    try:
        return backbone(MapName.of(word).backbone).weights != "none"
    except ConfigError:
        return False
