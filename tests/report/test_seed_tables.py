"""Published numbers against the documents' own text, whose bare rows stand in `seed-tables.tsv` in its order."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from dfloc.report import published
from tests import golden

DASH = "-"
TABLES = published.load()
FULL = {
    "ldm": "celebahq/ldm",
    "repaint": "celebahq/repaint-p2-9k",
    "lama": "celebahq/lama",
    "pluralistic": "celebahq/pluralistic",
    "plura": "celebahq/pluralistic",
    "real": "celebahq/real",
    "Repaint-P2-9k": "celebahq/repaint-p2-9k",
    "Repaint LDM": "celebahq/ldm",
    "Repaint P2": "celebahq/repaint-p2",
    **{name: f"celebahq/{name.lower()}" for name in ("LDM", "LaMa", "Pluralistic")},
}
TWO_STEP = {
    "Generalist": "generalist",
    "Detector + Generalist": "detector+generalist",
    "Classifier + 4 Specialists": "classifier+4-specialists",
}
ROWS: Mapping[str, Mapping[str, str]] = {
    "s000.budgets": {
        "9,000 each per model": "9000-each-per-model",
        "3,000 each per model": "3000-each-per-model",
        "3,000 each (train_all_4)": "3000-each-train_all_4",
        "1,000 LDM, 500 rest": "1000-ldm-500-rest",
        "1,750 LDM, 750 rest": "1750-ldm-750-rest",
    },
    "s000.mean_over_domains": {
        "train_all_4": "train_all_4",
        "smallest subset": "smallest_subset_1000-ldm-500-rest",
        "Two-Step Model": "two-step_classifier_4_specialists",
        "single-domain best": "best_single_domain",
    },
    "s003.attribution": {
        "xception41 (not pretrained)": "xception41_scratch",
        "xception41 (pretrained)": "xception41_pretrained",
        "CLIP": "clip",
        "SAM": "sam",
    },
    "s004.table1": {
        f"{model} {source}": f"{folder}/{name}"
        for source, folder in (("CelebA", "celebahq"), ("FFHQ", "ffhq"))
        for model, name in (
            *(("Real", "real"), ("P2", "p2"), ("Repaint-P2", "repaint-p2")),
            *(("Repaint-LDM", "ldm"), ("LaMa", "lama"), ("Pluralistic", "pluralistic")),
        )
    },
    "s000.two_step.domain_only": TWO_STEP,
    "s000.two_step.with_real": TWO_STEP,
}
METRICS = {"IoU": "iou", "PBCA": "pbca", "AP": "ap"}
METHODS = {"GC": "gradcam", "PT": "patches", "AT": "attention"}
SOURCES = {"CelebA-HQ": "celebahq", "FFHQ": "ffhq", "R-P2/CelebA": "repaint-p2", "COCO Glide": "coco-glide"}
NUMBERS = {  # of each document's tables; dashes are no numbers
    "s000.two_step": 16,
    "s003.xception41": 32,
    "s003.clip": 16,
    "s003.sam": 16,
    "s003.attribution": 24,
    "s004.table2": 24,
}


class Printed(NamedTuple):
    """A table as its document prints it."""

    where: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]


def read() -> dict[str, Printed]:
    text = (Path(golden.__file__).parent / "seed-tables.tsv").read_text(encoding="utf-8")
    found: dict[str, Printed] = {}
    for line in text.splitlines():
        first, second, *cells = line.split("\t")
        if first:
            name = first
            found[name] = Printed(second, tuple(cells), ())
        else:
            found[name] = found[name]._replace(lines=(*found[name].lines, (second, tuple(cells))))
    return found


PRINTED = read()


def col_of(name: str, head: str) -> str:
    """Return what a column is called in `published.yaml`, by the words of its document."""
    if name == "s004.table2":
        metric, method = head.split()
        return f"{METRICS[metric]}/{METHODS[method]}"
    if name in ("s004.table3", "s004.table4"):
        source, _, metric = head.rpartition(" ")
        return f"{SOURCES[source]}/{METRICS[metric]}"
    if head.startswith("w/o "):
        return f"without-{FULL[head.removeprefix('w/o ')].partition('/')[2]}"
    return FULL.get(head, {"Train": "train", "Val.": "valid", "Test": "test"}.get(head, head.lower()))


def row_of(name: str, label: str, place: int) -> str:
    """Return what a row is called there; of two rows of one label the second was trained on Dolos."""
    if name in ROWS:
        return ROWS[name][label]
    if name == "s001.decoders":
        decoder, features = label.split()
        return f"{decoder.lower()}/{features.replace('[', '.').rstrip(']')}"
    if name == "s004.table4":
        return label.lower() + ("-trained-setup-c" if place > 4 else "")
    return FULL.get(label, label)


def number(text: str, unit: str) -> float:
    """Return a printed number as `published` has it: a fraction, or images."""
    value = float(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
    return value / 100 if unit == "percent" else value


def printed(name: str) -> dict[tuple[str, str], float]:
    table = PRINTED[name]
    return {
        (row_of(name, label, place), col_of(name, head)): number(cell, TABLES[name].unit)
        for place, (label, cells) in enumerate(table.lines)
        for head, cell in zip(table.heads, cells, strict=True)
        if cell != DASH
    }


@pytest.mark.parametrize("name", PRINTED)
def test_every_number_of_a_document_is_the_published_one_and_no_other_is(name):
    found = {key: cell.value for key, cell in TABLES[name].cells.items()}
    assert found == pytest.approx(printed(name), abs=1e-12)


def test_every_table_of_the_documents_text_is_among_them():
    content = yaml.safe_load(published.SHIPPED.read_text(encoding="utf-8"))
    of_text = {each["id"] for each in content["studies"] if each["in_seed_text"]}
    assert of_text == {*PRINTED, "s000.reductions"}  # which is a sentence, and arithmetic (s000.c7)


@pytest.mark.parametrize(("start", "count"), NUMBERS.items())
def test_none_is_lost_on_the_way(start, count):
    assert sum(len(printed(name)) for name in PRINTED if name.startswith(start)) == count
