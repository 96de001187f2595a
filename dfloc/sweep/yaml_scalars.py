"""YAML as a sweep file reads it: a number is what a person writes as one, all else stays the text that it is."""

import math
import re

import yaml

MERGE, NULL, BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("merge", "null", "bool", "int", "float"))
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


class Loader(yaml.SafeLoader):
    """Reads plain data; a number that is too large is text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _whole(loader: Loader, node: yaml.ScalarNode) -> int | str:
    digits = str(node.value)
    number = int(digits) if len(digits) <= len(str(LARGEST)) + 1 else LARGEST
    return number if abs(number) < LARGEST else digits


def _real(loader: Loader, node: yaml.ScalarNode) -> float | str:
    number = float(node.value)
    return number if math.isfinite(number) else str(node.value)


for _tag, _pattern, _first in PATTERNS:
    Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), [c if c != "\0" else "" for c in _first])
Loader.add_constructor(INT, _whole)
Loader.add_constructor(FLOAT, _real)
