"""`dfloc data`: make, import and check data."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfloc import registry
from dfloc.cli.options import debug_option, plugin_option
from dfloc.errors import ConfigError

if TYPE_CHECKING:
    from upath import UPath

    from dfloc.data.alignment import MaskComparison
    from dfloc.data.check import SplitFacts
    from dfloc.data.dolos import Sample
    from dfloc.data.manifest import Manifest

CONTACT_SHEET = "contact-sheet.png"
AREAS = ("fake area", "smallest", "largest", "grey pixels")


@click.group("data")
def data() -> None:
    """Make, import and check data.

    \b
    dfloc data mini --out tree                 the built-in mini-Dolos
    dfloc data import tree --out shards        a tree of Dolos' layout -> shards
    dfloc data check shards                    what they hold
    """


@data.command("mini", context_settings={"show_default": True})
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where the tree goes.")
@click.option("--seed", type=int, default=0, help="Of crops, masks and noise.")
@click.option("--fold", type=click.IntRange(0, 3), default=0, help="Which source images are in which split.")
@click.option("--train", type=click.IntRange(1), default=160, help="Training images of each generator.")
@click.option("--valid", type=click.IntRange(1), default=40, help="Validation images of each generator.")
@click.option("--test", type=click.IntRange(1), default=40, help="Test images of each generator.")
@plugin_option
@debug_option
def make_mini(out: Path, seed: int, fold: int, train: int, valid: int, test: int, debug: bool) -> None:
    """Make the mini-Dolos: a small tree in Dolos' layout from photographs that the libraries ship.

    \b
    dfloc data mini --out tree
    dfloc data mini --out tree --train 320 --seed 1
    dfloc data mini --out tree --plugin mosaic.py      with a generator of your own
    """
    from dfloc.data import mini

    with _progress("crops") as on_progress:
        own = registry.added("generator")
        mini.make(out, seed=seed, fold=fold, train=train, valid=valid, test=test, more=own, on_progress=on_progress)
    click.echo(f"mini-Dolos in {out.absolute()}; next: dfloc data import {out} --out SHARDS")


@data.command("import", context_settings={"show_default": True})
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--out", required=True, metavar="DIR", help="Data folder (path or URL); what it holds already stays.")
@click.option("--domain", metavar="SOURCE/GENERATOR", help="SRC is a folder pair: the domain that it becomes.")
@click.option(
    "--fake-is", metavar="black|white|nonzero|alpha|VALUE[,VALUE]", help="Folder pair: what is fake in masks."
)
@click.option(
    "--masks", metavar="DIR", type=click.Path(path_type=Path), help="Folder pair: masks, where SRC is images."
)
@click.option("--mask-name", metavar="{cut}_mask", help="Folder pair: names of the masks.  [default: the images']")
@click.option("--table", metavar="FILE", type=click.Path(path_type=Path), help="The list of samples, instead.")
@click.option(
    "--photograph",
    metavar="{name}|{cut}|{stem}|REGEX",
    help="Folder pair: the source image that a file shows: its name, up to the last _, STEM of STEM-K, or a group.",
)
@click.option(
    "--authentic", metavar="DIR", type=click.Path(path_type=Path), help="Folder pair: real images, as SOURCE/real."
)
@click.option(
    "--originals",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder pair: the source images, by which masks are judged; named like the images.",
)
@click.option("--family", metavar="NAME", help="Folder pair: what the domain is held out with.  [default: GENERATOR]")
@click.option("--split", metavar="80/10/10", help="Folder pair without split folders: in per cent, or `test` for all.")
@click.option(
    "--masks-are",
    type=click.Choice(["stored", "shown"]),
    help="Masks of images that EXIF turns: as the file's pixels lie, or as viewers show them.  [default: what fits]",
)
@click.option("--allow-rejects", is_flag=True, help="Go on where over 1 % of the images cannot be used.")
@click.option("--allow-overlap", is_flag=True, help="Go on where a source image lies in two splits.")
@debug_option
def import_data(src: Path, out: str, allow_rejects: bool, allow_overlap: bool, debug: bool, **given: Any) -> None:
    """Import SRC, a tree of Dolos' layout or a folder pair, into Parquet shards.

    A tree has <source>/fake/<generator>/images|masks/<split>, <source>/fake/<generator>/<split> (wholly generated) and
    <source>/real/<split>; splits are train, valid, test. A folder pair has images/ and masks/; a mask is named like its
    image, or as --mask-name says: {name} is the image's name, {cut} the same up to its last _. Or --table lists the
    samples: columns image, mask, split, photograph, original, or two in this order without a head; no mask, or
    Negative, is an authentic image. --fake-is says which values of the masks are fake: those
    that numpy has of the file (of a palette the indices), a colour as 0xff0000, nonzero, or alpha (what is opaque).
    What cannot be used is named in rejected.csv. Importing again changes nothing; another domain is added to what is
    there.

    \b
    dfloc data import dolos --out shards
    dfloc data import edited --out shards --domain mine/lama --fake-is white --split 80/10/10
    dfloc data import photos --masks masks --out shards --domain mine/sd --fake-is black --split 80/10/10
    dfloc data import edited --table edited/list.csv --out shards --domain mine/list --fake-is white
    dfloc data import labels --out shards --domain mine/xl --fake-is 1,2 --split 80/10/10
    """
    from upath import UPath

    from dfloc.data.importer import import_samples

    folder = UPath(out)
    samples = _samples(src, folder, given)
    with _progress("images") as on_progress:
        summary = import_samples(
            samples, folder, allow_rejects=allow_rejects, allow_overlap=allow_overlap, on_progress=on_progress
        )
    click.echo(f"{summary.written} images imported into {folder}, {summary.unchanged} unchanged")
    if summary.rejected:
        click.echo(f"{len(summary.rejected)} rejected; {folder / 'rejected.csv'} says why")
    _warn(folder, summary.manifest)
    click.echo(f"next: dfloc data check {out}")


@data.command("check")
@click.argument("folder", metavar="DIR", type=click.Path())
@debug_option
def check_data(folder: str, debug: bool) -> None:
    """Tell what DIR holds: images, source images, mask areas, grey mask pixels; and draw a contact sheet.

    DIR is a folder of shards; of a tree of Dolos' layout the counts are told. Beside the images of a domain of
    Dolos stands how many its paper prints. Where the originals of fakes are at hand, which share of their pixels was
    changed inside and outside of the masks is told, of the first 500 images of a split (of a tree: 32), and what is
    wrong with the masks by it.

    \b
    dfloc data check shards
    """
    from upath import UPath

    from dfloc import storage
    from dfloc.data import alignment, check, dolos
    from dfloc.data.manifest import FILE_NAME, Manifest

    where = UPath(folder)
    if not (where / FILE_NAME).exists():
        samples = dolos.scan(Path(folder))
        _tell(check.check_tree(samples))
        with _progress("originals") as on_progress:
            found = check.compare_tree(samples, on_progress)
        for name, seen in found.items():
            _of_originals(name, seen)
            for words in alignment.words(name, "fake_is_black", seen) if seen else ():
                click.echo(f"Warning: {words}")
        click.echo(
            f"a tree; masks and equal images are looked at when it is imported: dfloc data import {folder} --out SHARDS"
        )
        return
    manifest = Manifest.load(where)
    _tell(check.check_shards(where, manifest))
    _warn(where, manifest)
    storage.put(where / CONTACT_SHEET, check.contact_sheet(where, manifest))
    click.echo(f"contact sheet: {where / CONTACT_SHEET}")


def _samples(src: Path, out: "UPath", given: dict[str, Any]) -> "list[Sample]":
    from dfloc.data import dolos, folder_pairs, mask_matching
    from dfloc.data.manifest import domains_of

    domain, fake_is, masks = given["domain"], given["fake_is"], given["masks"]
    if domain is None:
        idle = [f"--{name.replace('_', '-')}" for name, value in given.items() if value and name != "masks_are"]
        if idle:
            raise ConfigError(f"{', '.join(idle)}: for a folder pair, which needs --domain too")
        return [sample._replace(masks_are=given["masks_are"]) for sample in dolos.scan(src)]
    if fake_is is None:
        raise ConfigError(
            f"say which side of the masks of {domain} is fake: --fake-is black or --fake-is white, or VALUE"
        )
    pair = folder_pairs.FolderPair(
        images=src if masks else src / "images",
        masks=masks or src / "masks",
        domain=domain,
        fake_is=fake_is,
        split=given["split"],
        mask=given["mask_name"] or mask_matching.NAME,
        table=given["table"],
        photograph=given["photograph"],
        authentic=given["authentic"],
        originals=given["originals"],
        masks_are=given["masks_are"],
        family=given["family"],
    )
    return folder_pairs.scan(pair, held=domains_of(out))


def _tell(facts: "Sequence[SplitFacts]") -> None:
    from dfloc.data import check

    facts = check.with_missing(facts)
    _table(facts, dolos=any(fact.expected for fact in facts))
    for line in check.against_dolos(facts):
        click.echo(line)


def _table(facts: "Sequence[SplitFacts]", dolos: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("domain", "split"):
        table.add_column(heading, no_wrap=True)
    for heading in ("images", *(["in Dolos"] if dolos else []), "source images", *AREAS):
        table.add_column(heading, justify="right")
    for fact in facts:
        areas = fact.areas
        shown = [f"{areas.mean:.1%}", f"{areas.smallest:.1%}", f"{areas.largest:.1%}"] if areas else ["-", "-", "-"]
        grey = f"{areas.grey_pixels:,}" if areas else "-"
        expected = f"{'not ' if fact.differs else ''}{fact.expected.printed}" if fact.expected else "-"
        images = [f"{fact.images:,}", *([expected] if dolos else []), f"{fact.photographs:,}"]
        table.add_row(fact.domain, fact.split, *images, *shown, grey)
    Console(markup=False, width=None if sys.stdout.isatty() else 120).print(table)


def _warn(folder: "UPath", manifest: "Manifest") -> None:
    from dfloc.data import dolos
    from dfloc.data.leakage import undigested
    from dfloc.data.manifest import masks_of_one_kind, refs_of

    for name, info in sorted(manifest.domains.items()):
        if info.photograph:
            photographs = sum(part.photographs for part in info.splits.values())
            click.echo(f"{name}: {photographs:,} source images, told by {info.photograph}")
        if info.family != dolos.family(name, {}):
            click.echo(f"{name}: of family {info.family}")
        grey = sum(part.grey_pixels for part in info.splits.values())
        if grey:
            click.echo(f"{name}: {grey:,} mask pixels are grey; each counts as the nearer of black and white")
        if info.exif:
            ways = ", ".join(f"masks of {count:,} as {way}" for way, count in sorted(info.exif.items()))
            click.echo(f"{name}: EXIF turns {sum(info.exif.values()):,} images; {ways}")
        if info.kind == "local":
            _of_originals(name, info.originals)
    found = [
        *masks_of_one_kind(folder, manifest, manifest.local),
        *undigested(refs_of(folder, manifest, manifest.domains)),
    ]
    for note in dict.fromkeys([*manifest.notes, *found]):
        click.echo(f"Warning: {note}")


def _of_originals(domain: str, found: "MaskComparison | None") -> None:
    if found is None:
        click.echo(f"{domain}: no originals; polarity and place of its masks are not judged")
        return
    click.echo(f"{domain}: {found.shares} of the masks, by {found.images:,} originals ({found.tally})")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a step."""
    from rich.console import Console

    from dfloc.sweep.progress import Display

    with Display(Console(stderr=True), what, 0) as display:
        yield display.advance
