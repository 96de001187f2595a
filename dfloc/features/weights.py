"""Which weights a word names: their digest, and where they are loaded from again."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import safetensors.torch
from torch import Tensor
from upath import UPath

from dfloc import registry, storage
from dfloc.components import DecoderSpec
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.frozen import Frozen, fingerprint
from dfloc.models import classifiers, encoders, legacy_xception, tensors
from dfloc.models.base import Backbone, random_seed
from dfloc.storage import Workspace

ENCODER, CLASSIFIER, ATTENTION = "smp:", "timm:", "ffd:"
"""What stands before the name of a segmenter's encoder, of a classifier, or of a classifier with an attention map,
where a backbone's name stands else."""

# What reads the weights that are trained on, by what stands before the name.
TRAINED: Mapping[str, Callable[[str, str], dict[str, Tensor]]] = {
    ENCODER: encoders.weights,
    CLASSIFIER: classifiers.weights,
    ATTENTION: legacy_xception.weights,
}


def trained(spec: DecoderSpec) -> tuple[str, str]:
    """Return which of `TRAINED` reads what a decoder starts from, and the name of whose weights they are."""
    if spec.name == "xception-attention":
        return ATTENTION, legacy_xception.MODEL
    if spec.name == "xception-fcn":
        return CLASSIFIER, legacy_xception.MODEL
    return (CLASSIFIER, str(spec.model)) if spec.model else (ENCODER, str(spec.encoder))


_DIGEST = re.compile(r"[0-9a-f]{64}")


class Origin(Frozen):
    """Where weights of a digest came from.

    Attributes:
        backbone: whose they are.
        word: as a user named them, a file by its absolute path.
        digest: over the loaded tensors.
        stamp: size and time of change of a file; None where the word is no file.
        plugin: digest of the plug-in's file that loaded them.
    """

    backbone: str
    word: str
    digest: str
    stamp: tuple[int, int] | None = None
    plugin: str | None = None


class WeightsIndex:
    """The weights that a workspace knows: `weights/<backbone and word>.json`, and image towers out of checkpoints.

    A word is looked into once; a file again when its size or its time has changed.

    Args:
        workspace: keeps the index; every node reaches it.
    """

    def __init__(self, workspace: Workspace):
        self._root = workspace.weights

    def digest(self, backbone: str, word: str, load: bool = True, on_load: Callable[[str], None] | None = None) -> str:
        """Return what identifies the weights that a word names: what enters a recipe.

        Args:
            backbone: its name, or one of `TRAINED` and a model's, such as `timm:<model>`.
            word: none, `random`, `random:<seed>`, a tag of the library, a file, or a digest that the index knows.
            load: look into weights that are not known yet; else the word itself stands for them.
            on_load: told what is about to be read.

        Raises:
            ConfigError: no such weights, or they are another model's.
        """
        seed = random_seed(word)
        if seed is not None:
            return f"random:{seed}"
        kind = next((each for each in TRAINED if backbone.startswith(each)), None)
        has_none = kind is None and registry.backbone(backbone).weights == "none"
        if (word == "none" and has_none) or (_DIGEST.fullmatch(word) and self._by_digest(backbone, word)):
            return word
        word, stamp = _file(word)
        known = self._read(backbone, word)
        plugin = registry.plugin_of("backbone", backbone)
        gone = known and known.stamp and not stamp  # what was made with a file stays valid without it
        if known and known.plugin == plugin and (gone or known.stamp == stamp):
            return known.digest
        if not load:
            return word
        if on_load:
            on_load(f"reading the weights of {backbone} ({word})")
        if kind is not None:
            digest = tensors.digest(TRAINED[kind](backbone.removeprefix(kind), word))
        else:
            digest = _make(backbone, word, "cpu", plugin).digest
        self._put(Origin(backbone=backbone, word=word, digest=digest, stamp=stamp, plugin=plugin))
        return digest

    def source(self, backbone: str, digest: str) -> str:
        """Return the word by which weights are loaded.

        Raises:
            WorkspaceError: the index does not know them.
        """
        if digest == "none" or digest.startswith("random:"):
            return digest
        origin = self._by_digest(backbone, digest)
        if origin is None:
            raise WorkspaceError(
                f"the weights {digest[:12]} of {backbone} are not known in {self._root}; start a sweep that names them"
            )
        kept = self._kept(digest)
        return origin.word if _is_there(origin) or not kept.exists() else str(kept)

    def files(self) -> list[str]:
        """Return where a file is, or would be, for each word that was looked into."""
        origins = (storage.get_model(Origin, path) for path in sorted(self._root.glob("*.json")))
        return sorted({str(Path(_file(origin.word)[0]).absolute()) for origin in origins})

    def make(self, backbone: str, digest: str, device: str, plugin: str | None = None) -> Backbone:
        """Return a backbone with the weights of a digest.

        Args:
            backbone: its name.
            digest: of its weights, as a recipe has it.
            device: cpu | cuda.
            plugin: digest of the plug-in's file that it must come from.

        Raises:
            ConfigError: the plug-in is not loaded, or has changed.
            WorkspaceError: the index does not know them, or other weights came from where they were.
        """
        source = self.source(backbone, digest)
        made = _make(backbone, source, device, plugin)
        if made.digest != digest:
            raise self._changed(backbone, source, made.digest, digest)
        return made

    def encoder(self, encoder: str, digest: str, kind: str = ENCODER) -> dict[str, Tensor]:
        """Return the tensors that a segmenter's encoder, or a classifier, starts from (`TRAINED`).

        Raises:
            ConfigError, WorkspaceError: as for `make`.
        """
        source = self.source(f"{kind}{encoder}", digest)
        found = TRAINED[kind](encoder, source)
        if source != digest and (loaded := tensors.digest(found)) != digest:
            raise self._changed(f"{kind}{encoder}", source, loaded, digest)
        return found

    def _changed(self, backbone: str, source: str, loaded: str, planned: str) -> WorkspaceError:
        self._path(backbone, source).unlink(missing_ok=True)  # so that the word is looked into again
        return WorkspaceError(
            f"the weights of {backbone} ({source}) have changed: digest {loaded[:12]}, planned with "
            f"{planned[:12]}; put the old ones back, or start the sweep again with these"
        )

    def keep(self, backbone: str, digest: str, tower: Mapping[str, Tensor]) -> None:
        """Keep an image tower that came inside a checkpoint, where its weights are not known already."""
        known = self._by_digest(backbone, digest)
        if known and _is_there(known):
            return
        path = self._kept(digest)
        contiguous = {name: tensor.contiguous() for name, tensor in tower.items()}
        storage.put(path, safetensors.torch.save(contiguous))
        word, stamp = _file(str(path))
        self._put(Origin(backbone=backbone, word=word, digest=digest, stamp=stamp))

    def _kept(self, digest: str) -> UPath:
        """Return the file of a tower that is kept: the workspace may have moved since its path was noted."""
        return self._root / f"{digest}.safetensors"

    def _by_digest(self, backbone: str, digest: str) -> Origin | None:
        origins = (storage.get_model(Origin, path) for path in sorted(self._root.glob("*.json")))
        found = [origin for origin in origins if (origin.backbone, origin.digest) == (backbone, digest)]
        there = [origin for origin in found if _is_there(origin)]
        return next(iter(there or found), None)

    def _read(self, backbone: str, word: str) -> Origin | None:
        path = self._path(backbone, word)
        return storage.get_model(Origin, path) if path.exists() else None

    def _put(self, origin: Origin) -> None:
        path = self._path(origin.backbone, origin.word)
        storage.put(path, storage.sealed(origin, path))

    def _path(self, backbone: str, word: str) -> UPath:
        return self._root / f"{fingerprint([backbone, word])[:16]}.json"


def _is_there(origin: Origin) -> bool:
    return origin.stamp == _file(origin.word)[1]


def _file(word: str) -> tuple[str, tuple[int, int] | None]:
    """Return a file's absolute path, its size and its time of change in nanoseconds; any other word as it is."""
    try:
        path = UPath(word).expanduser()
        if not path.is_file():
            return word, None
        found = path.stat()
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"weights {word} cannot be looked at: {type(error).__name__}: {reason}") from error
    changed = getattr(found, "st_mtime_ns", getattr(found, "st_mtime", 0))
    return str(path.absolute()), (int(found.st_size), int(changed))


def _make(backbone: str, word: str, device: str, plugin: str | None) -> Backbone:
    made = registry.find("backbone", backbone, plugin)(backbone, word, device)
    if not hasattr(made, "digest"):
        raise ConfigError(f'backbone "{backbone}" says no digest of its weights; add the attribute `digest`')
    return cast(Backbone, made)
