"""The frozen backbones in the loop: what stored maps must equal."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from upath import UPath

from dfloc.augmentation import AugmentSpec
from dfloc.config import MapRecipe
from dfloc.data.augment import View
from dfloc.data.manifest import SampleRef
from dfloc.data.shards import ShardReader, decode_image
from dfloc.engine.batches import StoredSource, look
from dfloc.features.store import FeatureStore
from dfloc.models.base import Backbone


class LoopMaps:
    """Maps that the frozen backbones make from the decoded images, each time anew; rounded as the store rounds them.

    Args:
        backbones: by name.
        recipes: what is read of them.
        folder: of the shards.
        tokens: as for `fuse`.
    """

    def __init__(
        self, backbones: Mapping[str, Backbone], recipes: Sequence[MapRecipe], folder: UPath, *, tokens: bool = False
    ) -> None:
        self._backbones, self._recipes, self._tokens = backbones, recipes, tokens
        self._reader = ShardReader(folder)

    def read(self, samples: Sequence[SampleRef], view: View | None = None) -> Tensor:
        """Decode the images, change them, and run the backbones."""
        images = [decode_image(self._encoded(sample)) for sample in samples]
        ids = [sample.id for sample in samples]
        return look(images, self._backbones, self._recipes, view=view, ids=ids, tokens=self._tokens)

    def _encoded(self, sample: SampleRef) -> bytes:
        rows = self._reader.group(sample.shard, sample.group, ["image"])
        data: bytes = rows[sample.row]["image"]["bytes"]
        return data


class LoopSource(StoredSource):
    """The same batches with the frozen backbones in the loop; targets are stored ones.

    Args:
        backbones: by name.
        folder: of the shards.
        store: holds the targets.
        recipes: the maps.
        samples: in any order.
        augment: as for StoredSource.
        tokens: as for `fuse`.
    """

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        folder: UPath,
        store: FeatureStore,
        recipes: Sequence[MapRecipe],
        samples: Sequence[SampleRef],
        augment: AugmentSpec | None = None,
        *,
        tokens: bool = False,
    ) -> None:
        super().__init__(store, recipes, samples, augment=augment, tokens=tokens)
        self.maps = LoopMaps(backbones, recipes, folder, tokens=tokens)
