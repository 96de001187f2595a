"""The text of a sweep file or a setting -> plain values and their lines; what YAML takes silently is refused."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dfloc.axis import frozen
from dfloc.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000  # with every alias written out
MAX_DEPTH = 50
MAX_SHOWN = 100  # characters of a wrong value

MERGE, NULL, BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("merge", "null", "bool", "int", "float"))
TEXT, LIST, MAPPING = (f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map"))
LARGEST = 2**63  # of what a tensor, a seed or a database can hold

# What the words of YAML 1.2's core schema are. YAML 1.1, which PyYAML follows, takes 010 for 8, 1:30 for 90 and on for
# true; here they are text, and where a number is wanted they are refused by name.
PATTERNS = (
    (MERGE, r"<<", "<"),
    (NULL, r"~|null|Null|NULL|", "~nN\0"),
    (BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (INT, r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (FLOAT, r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
)

# What may be in `${...}`: a key. OmegaConf would call functions too: `${oc.env:HOME}`.
KEY = re.compile(r"\$\{\.*[\w-]+(?:\.[\w-]+|\[[\w-]+\])*\}")
MISSING = "???"  # OmegaConf's word for a value that is still to come: what is merged over another is dropped for it
NUMBERED = "choices"  # whose keys are values of another axis; elsewhere a key is a word


class Loader(yaml.SafeLoader):
    """Reads plain data; a number that is too large is text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Writes what `Loader` reads as the same: quotes all that either YAML 1.1 or the loader takes for no text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return that every value is written out."""
        return True


def _whole(loader: Loader, node: yaml.ScalarNode) -> int | str:
    digits = str(node.value)
    number = int(digits) if len(digits) <= len(str(LARGEST)) + 1 else LARGEST
    return number if abs(number) < LARGEST else digits


def _real(loader: Loader, node: yaml.ScalarNode) -> float | str:
    number = float(node.value)
    return number if math.isfinite(number) else str(node.value)


for _tag, _pattern, _first in PATTERNS:
    for _either in (Loader, _Dumper):
        _either.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), [c if c != "\0" else "" for c in _first])
Loader.add_constructor(INT, _whole)
Loader.add_constructor(FLOAT, _real)


class Text:
    """A text in YAML, read and looked through.

    Args:
        text: what is read.
        place: how messages name it: a path, or a setting.
        lines: name the line too.

    Attributes:
        values: what it holds; None where it is empty.

    Raises:
        ConfigError: no YAML of plain values, a key that stands twice, or what would run, look outside or fill the
            memory; names the line.
    """

    def __init__(self, text: str, place: str, lines: bool = True):
        self._place, self._lines, self._maker = place, lines, Loader("")
        try:
            self._root = yaml.compose(text, Loader)
            self._look(self._root, (), {}, "")
            self.values: Any = None if self._root is None else self._maker.construct_document(self._root)
        except yaml.reader.ReaderError as error:
            where = self._at(text[: error.position].count("\n") + 1)
            raise ConfigError(f"{where}: no YAML: character {error.character!r} cannot stand in a text") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError(f"{self._at(mark.line + 1 if mark else None)}: no YAML: {error.problem}") from None
        except RecursionError:
            raise ConfigError(f"{place}: no YAML of a sweep: lists or mappings are nested too deep") from None

    def line(self, path: Sequence[str | int]) -> int | None:
        """Return the line of the key at the end of a path, counted from 1; keys may have dots, and parts too."""
        line, node = None, self._root
        parts = [piece for part in path for piece in str(part).split(".")]
        while parts:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in reversed(node.value) if _begins(parts, str(pair[0].value))), None)
                if pair is None:
                    return None
                line, node = pair[0].start_mark.line + 1, pair[1]
                del parts[: len(str(pair[0].value).split("."))]
            elif isinstance(node, yaml.SequenceNode) and parts[0].isdecimal() and int(parts[0]) < len(node.value):
                node = node.value[int(parts.pop(0))]
                line = node.start_mark.line + 1
            else:
                return None
        return line

    def _at(self, line: int | None) -> str:
        return f"{self._place} line {line}" if line and self._lines else self._place

    def _no(self, node: yaml.Node, why: str) -> ConfigError:
        return ConfigError(f"{self._at(node.start_mark.line + 1)}: {why}")

    def _look(self, node: Any, above: tuple[int, ...], sizes: dict[int, int], key: str) -> int:
        """Refuse what is no plain value; return the number of values below, aliases written out."""
        if id(node) in sizes or node is None:
            return sizes.get(id(node), 0)
        if id(node) in above:
            raise self._no(node, "an anchor stands inside of what it names, so that it would have no end")
        if len(above) > MAX_DEPTH:
            raise self._no(node, f"lists or mappings are nested deeper than {MAX_DEPTH}, which is no sweep")
        self._plain(node)
        if isinstance(node, yaml.MappingNode):
            self._keys(node, key)
        total, inside = 1, (*above, id(node))
        for below, name in _below(node, key):
            total += self._look(below, inside, sizes, name)
            if total > MAX_VALUES:
                raise self._no(node, f"it stands for more than {MAX_VALUES:,} values: that is no sweep file")
        sizes[id(node)] = total
        return total

    def _plain(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode):
            value = str(node.value)
            if node.tag not in (TEXT, self._implicit(value, node.style is None)):
                raise self._no(node, f"tag {_short(node.tag)}: only plain values are read; leave the tag out")
            if "${" in KEY.sub("", value):
                why = (
                    "does not name a key of this file as ${key}; functions and the environment are not asked by a study"
                )
                raise self._no(node, f"{cut(value)} {why}")
            if "\\${" in value:
                raise self._no(node, f"{cut(value)} has a backslash before ${{, which is not kept; leave both out")
            if value == MISSING:
                raise self._no(node, f'"{MISSING}" stands for no value; write one, or leave the key out')
        elif node.tag not in (LIST, MAPPING):
            raise self._no(node, f"tag {_short(node.tag)}: only plain values are read; leave the tag out")

    def _implicit(self, value: str, plain: bool) -> str:
        """Return the tag of a scalar that has none of its own."""
        return str(self._maker.resolve(yaml.ScalarNode, value, (plain, not plain)))  # type: ignore[no-untyped-call]

    def _keys(self, node: yaml.MappingNode, name: str) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise self._no(key, "a list or a mapping stands where a key should be; a key is a word")
            word = str(key.value)
            if key.tag not in (TEXT, MERGE) and (name != NUMBERED or key.tag == NULL):
                raise self._no(key, f'key {word or "(nothing)"} is no word; put it in quotes: "{word}"')
            if name == NUMBERED:
                word = str(frozen(self._maker.construct_object(key)))
            if word in seen:
                lines = f" in lines {seen[word]} and {line}" if line != seen[word] else f" in line {line}"
                raise self._no(key, f'key "{word}" stands twice{lines if self._lines else ""}; leave one of them out')
            seen[word] = line


def read(path: Path) -> Text:
    """Return the text of a sweep file.

    Raises:
        ConfigError: no file, too large, no UTF-8; and as for `Text`.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is no file, but a sweep file is expected")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES:,} bytes: that is no sweep file")
    try:
        return Text(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path} line {line}: no YAML: byte {data[error.start]:#04x} is no UTF-8") from error


def _text(dumper: _Dumper, data: str) -> yaml.ScalarNode:
    """Return a text with what YAML would fold, or cannot show, written as an escape."""
    return dumper.represent_scalar(TEXT, data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _text)


def written(values: Any) -> str:
    """Return values as YAML of which `Text` gives the same values."""
    return str(
        yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    )


def _below(node: yaml.Node, name: str) -> list[tuple[yaml.Node, str]]:
    """Return what a node holds, and by which key."""
    if isinstance(node, yaml.MappingNode):
        return [(part, str(key.value)) for key, value in node.value for part in (key, value)]
    return [(part, name) for part in node.value] if isinstance(node, yaml.SequenceNode) else []


def _short(tag: str) -> str:
    return cut(tag.replace("tag:yaml.org,2002:", "!!"))


def cut(text: str, most: int = 80) -> str:
    """Return the beginning of what a user wrote, if it is long."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shown(value: object) -> str:
    """Return a wrong value as a sweep file has it, its kind where it holds others."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "empty"
    text = repr(dict(value)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _begins(parts: Sequence[str], key: str) -> bool:
    words = key.split(".")
    return list(parts[: len(words)]) == words
