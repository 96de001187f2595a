"""One literal table of everything that has a name in a sweep: kind, name -> where it is made."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple

from dfloc.backbones import BACKBONES as BACKBONES  # rows have one door, this module
from dfloc.backbones import BackboneRow as BackboneRow
from dfloc.backbones import Layout as Layout
from dfloc.backbones import MapSpec as MapSpec
from dfloc.errors import ConfigError, unknown

ComponentKind = Literal["backbone", "decoder", "loss", "optimizer", "schedule", "protocol", "generator"]

# Libraries all of whose models are backbones, `<library>:<model>`: what makes the row of such a name.
LIBRARIES: Mapping[str, str] = {"clip": "dfloc.models.towers:row"}

FACTORIES: Mapping[ComponentKind, Mapping[str, str]] = {
    "backbone": {name: row.factory for name, row in BACKBONES.items()},
    "decoder": {
        "linear": "dfloc.models.heads:make_linear",
        "conv": "dfloc.models.decoders:make_conv",
        "attention": "dfloc.models.attention:make_attention",
        "smp": "dfloc.models.smp:make_smp",
        "xception": "dfloc.models.xception:make_xception",
        "all-fake": "dfloc.models.baselines:make_all_fake",
        "mean-mask": "dfloc.models.baselines:make_mean_mask",
        "threshold": "dfloc.models.baselines:make_threshold",
        "prior": "dfloc.models.heads:make_prior",
        "xception-fcn": "dfloc.models.legacy_xception:make_fcn",
        "xception-attention": "dfloc.models.legacy_xception:make_attention",
        "timm": "dfloc.models.classifiers:make_timm",
        "small": "dfloc.models.small:make_small",
        "small-attention": "dfloc.models.small:make_small_attention",
    },
    "loss": {
        **{name: f"dfloc.losses:{name}" for name in ("attention", "bce", "ce", "dice", "focal")},
        **{name: f"dfloc.losses:{name}" for name in ("jaccard", "lovasz")},
        "sum": "dfloc.losses:weighted_sum",
    },
    "optimizer": {"adamw": "torch.optim:AdamW", "adam": "torch.optim:Adam"},
    "schedule": {
        name: f"dfloc.engine.schedule:make_{name.replace('-', '_')}" for name in ("constant", "plateau", "one-cycle")
    },
    "protocol": {
        "declip-2025": "dfloc.metrics.declip:declip_2025",
        "dolos-2024": "dfloc.metrics.dolos:dolos_2024",
        "dfloc-1": "dfloc.metrics.native:dfloc_1",
        "image-1": "dfloc.metrics.image_protocols:image_1",
        "thesis-2025": "dfloc.metrics.image_protocols:thesis_2025",
    },
}

# Decoders that are solved in closed form instead of trained: the baselines.
SOLVED = frozenset({"all-fake", "mean-mask", "threshold", "prior"})

# What is composed of finished trials, and trained by nothing: it has no factory.
COMPOSITE = "composite"

# Decoders that read all tokens of one transformer, CLS first, as a grid of one row [B, C, 1, T]; a linear head that
# pools `cls` is another one (`DecoderSpec.reads_tokens`).
TOKENS = frozenset({"attention"})

# What a decoder gives where a trial's task is of whole images: a map [B, 1, H, W], image logits [B, K], or both; one
# that is not named here gives a map. Where the task is to localize, every decoder gives a map.
DECODER_GIVES: Mapping[str, Literal["map", "image", "both"]] = {
    **dict.fromkeys(("linear", "prior", "small", "timm"), "image"),
    **dict.fromkeys(("small-attention", "xception-attention"), "both"),
}

# What a loss reads: a map and the pixels' truth, image logits and labels, or both outputs and labels; `sum` reads what
# its terms read.
LOSS_READS: Mapping[str, Literal["map", "image", "both"]] = {
    **dict.fromkeys(("bce", "dice", "focal", "jaccard", "lovasz"), "map"),
    "ce": "image",
    "attention": "both",
}

# Which fields of its spec each decoder, loss and schedule reads; the others are cleared, so that they part no trials.
# What a plug-in brings reads what it likes.
DECODER_FIELDS: Mapping[str, frozenset[str]] = {
    "conv": frozenset(
        {"depth", "channels", "kernel", "out_size", "grid", "init", "prior", "standardize", "batch_norm"}
    ),
    "linear": frozenset({"init", "prior", "standardize", "grid", "pool"}),
    "attention": frozenset({"mask", "trained", "init", "prior"}),
    "smp": frozenset({"architecture", "encoder", "weights", "batch_norm", "prior"}),
    "xception": frozenset({"block", "init", "batch_norm", "prior"}),
    "xception-fcn": frozenset({"block", "weights", "batch_norm", "prior"}),
    "xception-attention": frozenset({"block", "weights", "batch_norm"}),
    "timm": frozenset({"model", "weights", "batch_norm"}),
    **dict.fromkeys(("small", "small-attention"), frozenset({"widths", "init", "standardize", "batch_norm"})),
    **dict.fromkeys(SOLVED, frozenset()),
}
LOSS_FIELDS: Mapping[str, frozenset[str]] = {
    "bce": frozenset(),
    "ce": frozenset(),
    "attention": frozenset({"weight_map"}),
    "dice": frozenset({"reduction", "smooth"}),
    "jaccard": frozenset({"reduction", "smooth"}),
    "focal": frozenset({"alpha", "gamma"}),
    "lovasz": frozenset({"reduction"}),
    "sum": frozenset({"terms"}),
}

SCHEDULE_FIELDS: Mapping[str, frozenset[str]] = {
    "constant": frozenset(),
    "plateau": frozenset({"watch", "delta"}),
    "one-cycle": frozenset(),
}

# Raised when code changes a component's numbers, so that old trials are not mistaken for new ones.
SEMANTICS: Mapping[str, int] = {
    "decode": 1,
    "target": 1,
    "augment": 1,
    "engine": 1,
    "decoder/linear": 1,
    "decoder/conv": 1,
    "decoder/attention": 1,
    "decoder/smp": 1,
    "decoder/xception": 2,
    "decoder/all-fake": 1,
    "decoder/mean-mask": 1,
    "decoder/threshold": 1,
    "decoder/prior": 1,
    "decoder/timm": 1,
    "decoder/xception-fcn": 1,
    "decoder/xception-attention": 1,
    "decoder/small": 1,
    "decoder/small-attention": 1,
    "loss/attention": 1,
    "decoder/composite": 1,
    "loss/bce": 1,
    "loss/ce": 1,
    "loss/dice": 1,
    "loss/focal": 1,
    "loss/jaccard": 1,
    "loss/lovasz": 1,
    "loss/sum": 1,
    "protocol/declip-2025": 1,
    "protocol/dolos-2024": 1,
    "protocol/dfloc-1": 1,
    "protocol/image-1": 1,
    "protocol/thesis-2025": 1,
    "explain/grad-cam": 1,
}


class Added(NamedTuple):
    """What a plug-in adds under a name (a backbone: its row and its factory), and the digest of the plug-in's file."""

    what: Any
    digest: str


# The plug-ins of this process, and what they add: set by `plug` alone.
_plugged: dict[str, Any] = {"plugins": (), "added": {}}


def plug(plugins: Sequence[Any], added: Mapping[tuple[ComponentKind, str], Added]) -> None:
    """Put what plug-ins add beside the built-in names, instead of what was added before."""
    _plugged.update(plugins=tuple(plugins), added=dict(added))


def plugins() -> tuple[Any, ...]:
    """Return the plug-ins of this process, as another process must be told them."""
    return tuple(_plugged["plugins"])


def plugin_of(kind: ComponentKind, name: str) -> str | None:
    """Return the digest of the plug-in's file that a name comes from; None for a built-in name."""
    added = _plugged["added"].get((kind, name))
    return added.digest if added else None


def added(kind: ComponentKind) -> dict[str, Any]:
    """Return what plug-ins add of a kind, by name."""
    return {name: one.what for (of, name), one in _plugged["added"].items() if of == kind}


def names(kind: ComponentKind) -> list[str]:
    """Return the known names of a kind, sorted, without what only tests need."""
    hidden = {name for name, row in BACKBONES.items() if not row.listed} if kind == "backbone" else set()
    return sorted({*FACTORIES.get(kind, ()), *added(kind)} - hidden)


def find(kind: ComponentKind, name: str, plugin: str | None = None) -> Callable[..., Any]:
    """Import and return the factory of a name.

    Args:
        kind: of what is made.
        name: its name.
        plugin: digest of the plug-in's file that it must come from; None: it is built in.

    Raises:
        ConfigError: the name is not in the table (says what is near and what is known), its library is missing, or its
            plug-in is not loaded or has changed.
    """
    loaded = plugin_of(kind, name)
    if plugin != loaded:
        has = f"the one that is loaded has digest {loaded[:12]}" if loaded else "which is not loaded"
        needs = f"is of a plug-in with digest {plugin[:12]}" if plugin else "is built in"
        raise ConfigError(f'{kind} "{name}" {needs}, {has}; give the file of then by --plugin')
    if loaded:
        what = added(kind)[name]
        return what[1] if kind == "backbone" else what  # type: ignore[no-any-return]
    where = backbone(name).factory if kind == "backbone" else FACTORIES.get(kind, {}).get(name)
    if where is None:
        raise unknown(kind, name, names(kind))
    return _imported(kind, name, where)


def backbone(name: str) -> BackboneRow:
    """Return a backbone's row; that of `<library>:<model>` is made from what the library says of the model."""
    if name in added("backbone"):
        row, _ = added("backbone")[name]
        assert isinstance(row, BackboneRow)
        return row
    if name in BACKBONES:
        return BACKBONES[name]
    library, colon, _ = name.partition(":")
    if colon and library in LIBRARIES:
        made: BackboneRow = _imported("backbone", name, LIBRARIES[library])(name)
        return made
    raise unknown("backbone", name, [*names("backbone"), *(f"{library}:<model>" for library in LIBRARIES)])


def map_spec(full_name: str) -> MapSpec:
    """Return the shape of a map, `<backbone>/<map>`, without its weights; `<backbone>` where its map has no name."""
    head, slash, tail = full_name.partition("/")
    row = backbone(head)
    if tail not in row.maps or (slash and not tail):
        known = row.maps if "" not in row.maps else [f"{head}, without a slash"]
        raise unknown(f"map of {head}", tail, known)
    return row.maps[tail]


def _imported(kind: ComponentKind, name: str, where: str) -> Callable[..., Any]:
    """Return what stands at "module:function"."""
    module, _, attribute = where.partition(":")
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise ConfigError(f'{kind} "{name}" needs the module {error.name}, which is not installed') from error
