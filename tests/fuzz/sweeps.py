"""Sweep files and settings, changed: refused in one sentence with the place, or a plan that is what was written."""

import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

from dfloc.errors import DflocError
from dfloc.storage import Workspace
from dfloc.sweep import yaml_text
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import Prepared, merged, prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from dfloc.sweep.sweep_file import shipped
from dfloc.sweep.sweep_keys import BARE
from tests.fuzz import mutate
from tests.fuzz.harness import Case, Part, WrongError

PRESETS = ("smoke", "smoke", "mini", "paper")
MAX_SENTENCE = 3_000
PLACE = re.compile(r'\.yaml|--[a-z]+|stage \S|axis \S|domain|"[^"]+"')  # a file, an option, or the word

# Plain YAML as it stands in a file: what is read otherwise than it looks, what is none, what is too much.
HOSTILE = (
    *("010", "0o10", "0x1F", "1_000", "on", "off", "yes", "true", "True", "~", "null", "1:30", "12:30:45", "1e400"),
    *("-1", "0", ".nan", ".inf", "NaN", "1e-3", "3.0", "3.", "+3", "'3'", '"1e-3"', "9" * 400, "=", "<<", "1.5", "7"),
    *("${x}", "${trial}", "${name}", "${domains}", "${oc.env:HOME}", "${a.b.c}", "${", "${.epochs}", "\\${name}"),
    *("???", "*nobody", "&a [*a]", "&b x", "!!python/object:os.system {}", "!!binary aGk=", "!!str 3", "|", ">", "@"),
    *("[]", "{}", "[[]]", "{a: b}", "[1, a]", "[null]", "[n, n]", "''", "a/b", "' '", '"\\0"', "ünï", "a.b", "`"),
    *("data", "data:1", "data:99", "all", "held_out", "n", "conv", "bce", "[bce, dice]", "srm/stats", "[srm/stats]"),
    *("{low: 1, high: 2}", "{of: n, choices: {a: [1]}}", "{name: bce}", "{stage: base}", "{trial: abc}"),
)
KEYS = ("trial", "name", "grid", "cases", "<<", "1", "on", "a/b", "", "?", "train", "from", "seeds", "presets", "of")
OPTIONS: tuple[tuple[str, Callable[[Random], Any]], ...] = (
    ("only", lambda rng: (rng.choice(("base", "baselines", "", "/", "base/x", "nobody", "single/vit-equal")),)),
    ("limit", lambda rng: rng.choice((1, 2, 7, 10**30))),
    ("seeds", lambda rng: rng.choice((1, 2, 10**9))),
    ("draws", lambda rng: rng.choice((1, 2, 10**12))),
)

Planned = list[tuple[str, str, str, str]]


class Asked(NamedTuple):
    """What is asked beside a file."""

    preset: str
    settings: tuple[str, ...] = ()
    more: Mapping[str, Any] = {}


@cache
def folder() -> Path:
    """Return where files are put, and a workspace that is not there."""
    return Path(tempfile.mkdtemp(prefix="dfloc-fuzz-sweeps-"))


def remove() -> None:
    """Delete the folder, where one was made."""
    if folder.cache_info().currsize:
        shutil.rmtree(folder())
        folder.cache_clear()


@cache
def sources() -> dict[str, str]:
    """Return the sweeps that dfloc ships; those that build large encoders to be planned are left out."""
    return {name: path.read_text() for name, path in shipped().items() if name not in ("segmenters", "cross-domain")}


@cache
def _read(source: str) -> Any:
    return yaml.load(source, yaml_text.Loader)


def read(source: str) -> Any:
    """Return the content of a sweep that dfloc ships, to be changed."""
    return deepcopy(_read(source))


def options(path: Path, asked: Asked) -> SweepRequest:
    """Return what a command line would say."""
    where = str(folder() / "workspace")
    return SweepRequest(str(path), where, preset=asked.preset, settings=asked.settings, **asked.more)


def plan(path: Path, asked: Asked) -> Prepared:
    """Plan a file as a dry run does: without data, weights or Ray."""
    given = options(path, asked)
    workspace = Workspace(given.workspace, create=False)
    return prepare(given, workspace, data_of(given, workspace), Inventory(workspace, load=False))


def trials(prepared: Prepared, cover: bool = True) -> Planned:
    """Return what identifies every trial, in an order of its own."""
    found = prepared.plan.resolved.all if cover else prepared.plan.resolved.record.trials
    return sorted((one.stage, one.case, repr(sorted(one.axes.items())), one.fingerprint) for one in found)


def check(data: bytes, asked: Asked) -> str:
    """Return what came of a file: refused, or right.

    Raises:
        WrongError: too many words, no place, or a plan that is not what was written.
    """
    path = folder() / "fuzzed.yaml"
    path.write_bytes(data)
    try:
        prepared = plan(path, asked)
    except DflocError as error:
        told = str(error)
        if len(told) > MAX_SENTENCE or not PLACE.search(told) or "Traceback" in told:
            raise WrongError(f"no sentence with a place: {told[:300]}") from None
        raise
    expected = trials(prepared)
    shown = merged(options(path, asked))
    again = folder() / "again.yaml"
    again.write_text(shown)
    less = Asked(asked.preset, more={key: value for key, value in asked.more.items() if key in ("only", "limit")})
    if trials(plan(again, less)) != expected:
        raise WrongError("the merged sweep file gives another plan")
    moved = folder() / "moved.yaml"
    moved.write_text(f"# a word\n{yaml_text.written(shuffled(yaml_text.read(path).values, Random(len(data))))}")
    if trials(plan(moved, asked), cover=False) != trials(prepared, cover=False):
        raise WrongError("another order of keys gives another plan")
    for key, wrote, came in differences(data.decode("utf-8-sig"), shown, asked):
        raise WrongError(f"{key} was written as {wrote}, and read as {came}")
    return "right"


def shuffled(value: Any, rng: Random) -> Any:
    """Return the same values, the keys of every mapping in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], rng) for key in rng.sample([*value], len(value))}
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


def differences(source: str, shown: str, asked: Asked) -> Iterator[tuple[str, str, str]]:
    """Yield what was written otherwise than it was read: (key, as written, as read).

    What is written is read anew here, as texts alone, by another reader than the one that is judged.
    """
    given = _texts(yaml.compose(source, yaml.CBaseLoader))
    came = dict(_leaves(_texts(yaml.compose(shown, yaml.CBaseLoader))))
    preset = (given.get("presets") or {}).get(asked.preset) or {}
    later = {key for key, _ in _leaves(preset)} | {tuple(one.partition("=")[0].split(".")) for one in asked.settings}
    for key, wrote in _leaves({name: value for name, value in given.items() if name not in ("presets", "domains")}):
        over = any(key[: len(one)] == one or one[: len(key)] == key for one in later)
        if over or "${" in wrote or key not in came or key[0] in asked.more:
            continue
        if came[key] != wrote and _number(came[key]) != _number(wrote):
            yield ".".join(key), wrote, came[key]


def _texts(node: Any) -> Any:
    """Return a tree of texts; what is empty is left out, a bare name is spelled out."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            inside = _texts(value)
            if key.value == "<<":
                parts = inside if isinstance(inside, list) else [inside]
                found = {**{name: item for part in parts for name, item in part.items()}, **found}
            elif inside is not None:
                bare = key.value in BARE and isinstance(inside, str)
                found[key.value] = {BARE[key.value]: inside} if bare else inside
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_texts(item) for item in node.value]
    empty = node is None or (node.style is None and node.value in ("", "~", "null", "Null", "NULL"))
    return None if empty else str(node.value)


def _leaves(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, (*key, name))
    elif value is not None:
        yield key, str(value)


def _number(word: str) -> object:
    """Return a number in plain digits; any other text as it is, but `True` as `true`."""
    if re.fullmatch(r"[-+]?(?:0|[1-9]\d*)?\.?\d*(?:[eE][-+]?\d+)?", word) and re.search(r"\d", word):
        number = float(word)
        return number if math.isfinite(number) else word
    return word.lower() if word.lower() in ("true", "false") else word


class _Raw(str):
    """Plain YAML that is written as it stands."""


def hostile_tree(source: str, rng: Random) -> bytes:
    """Change one to three places of a file's tree."""
    tree = read(source)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place, key = rng.choice([*_places(tree)])
        how = rng.randrange(8)
        if how == 0:
            del place[key]
        elif how == 1 and isinstance(place, dict):
            place[rng.choice((str(key) + "x", str(key)[:-1], rng.choice(KEYS)))] = place.pop(key)
        elif how == 2:
            other, name = rng.choice([*_places(tree)])
            place[key] = yaml.load(yaml.safe_dump(_plain(other[name])), yaml_text.Loader)
        elif how == 3:
            place[key] = rng.choice(([place[key]], {"a": place[key]}, [[place[key]]]))
        else:
            place[key] = _Raw(rng.choice(HOSTILE))
    raw: list[str] = []
    written = yaml_text.written(_marked(tree, raw))
    return re.sub(r"'?@(\d+)@'?", lambda found: raw[int(found[1])], written).encode("utf-8", "surrogateescape")


def hostile_text(source: str, rng: Random) -> bytes:
    """Change lines or bytes of a file."""
    lines = source.splitlines()
    at = rng.randrange(len(lines))
    how = rng.randrange(8)
    if how == 0:
        lines.insert(at, lines[at])
    elif how == 1:
        del lines[at]
    elif how == 2:
        lines[at] = lines[at].replace("  ", "\t", 1)
    elif how == 3:
        lines[at] = f"{lines[at].partition(': ')[0]}: {rng.choice(HOSTILE)}"
    elif how == 4:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif how == 5:
        odd = ("---", "...", "  " * 9 + "x: 1", "<<: *few", "? [a]", "# word", "%YAML 9.9", "- a")
        lines.insert(at, rng.choice(odd))
    elif how == 6:
        return mutate.cut(source.encode(), rng)
    else:
        return mutate.some(source.encode(), [one.encode() for one in sources().values()], rng)
    return "\n".join(lines).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (mapping or list, key or index) of a tree."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _marked(value: Any, raw: list[str]) -> Any:
    """Return a tree with a mark for each piece of plain YAML, which is put into `raw`."""
    if isinstance(value, dict):
        return {key: _marked(item, raw) for key, item in value.items()}
    if isinstance(value, list):
        return [_marked(item, raw) for item in value]
    if isinstance(value, _Raw):
        raw.append(str(value))
        return f"@{len(raw) - 1}@"
    return value


def _setting(tree: Any, rng: Random) -> str:
    """Return a `--set` of a key that there is, mostly, and of a value of any kind."""
    words: list[str] = []
    node = {key: value for key, value in tree.items() if key != "presets"}
    while isinstance(node, dict) and node and rng.random() < 0.9:
        words.append(str(rng.choice(list(node))))
        node = node.get(words[-1])
    key = ".".join(words)
    if rng.random() < 0.15:
        key = rng.choice((f"{key}.x", key[:-1], f"{key}..a", f" {key} ", f"{key}.0", f"grid.{key}", "grid.trial.loss"))
    return f"{key}={rng.choice(HOSTILE)}" if rng.random() < 0.95 else key


def _make(rng: Random) -> Case:
    name = rng.choice(list(sources()))
    source = sources()[name]
    how = rng.choice((hostile_tree, hostile_tree, hostile_text, None))
    data = how(source, rng) if how else source.encode()
    tree = read(source)
    settings = tuple(_setting(tree, rng) for _ in range(rng.choice((1, 1, 2)))) if how is None else ()
    more = {key: draw(rng) for key, draw in OPTIONS if rng.random() < 0.06}
    asked = Asked(rng.choice(PRESETS), settings, more)
    said = " ".join([f"--preset {asked.preset}", *(f"--set {one!r}" for one in settings), *map(str, more.items())])
    return Case(f"{name} {how.__name__ if how else 'settings'} {said}", data, lambda data: check(data, asked))


PART = Part("sweeps", 1500, _make)
