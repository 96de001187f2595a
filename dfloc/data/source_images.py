"""Which photograph a file of one's own shows: its whole name, a part of it, or what a pattern finds."""

import re
from collections.abc import Callable, Collection, Iterable

from dfloc.data import dolos, mask_matching
from dfloc.data.mask_matching import CUT, NAME
from dfloc.errors import ConfigError, DataError

STEM = "{stem}"
TABLE = "table"  # what a manifest says of a domain whose photographs a column named

MAX_PATTERN = 200
_REPEATED = re.compile(r"(?<!\\)\)[*+{]")

Rule = Callable[[str], str]


def rule(written: str) -> Rule:
    """Return what tells the photograph of a file by its bare name, which has the folders below its split.

    Args:
        written: `{name}` (whole), `{cut}` (up to its last `_`), `{stem}` (Dolos' STEM-K), or a regular expression that
            matches the whole name and has one group.

    Raises:
        ConfigError: it is none of these; the rule itself raises DataError for a name that the expression misses.
    """
    known: dict[str, Rule] = {NAME: str, CUT: mask_matching.cut, STEM: dolos.photograph}
    if written in known:
        return known[written]
    expected = f"expected {NAME}, {CUT}, {STEM}, or a regular expression with one group, as '(.*)_[0-9]+'"
    if len(written) > MAX_PATTERN or _REPEATED.search(written):
        raise ConfigError(f'photograph "{written[:MAX_PATTERN]}" is too long, or repeats a group; {expected}')
    try:
        pattern = re.compile(written)
    except Exception as error:  # whatever the parser of patterns raises
        raise ConfigError(f'photograph "{written}" cannot be read ({error}); {expected}') from error
    if pattern.groups != 1 and "photograph" not in pattern.groupindex:
        raise ConfigError(f'photograph "{written}" has {pattern.groups} groups; {expected}')

    def find(name: str) -> str:
        match = pattern.fullmatch(name)
        found = match and match["photograph" if pattern.groupindex else 1]
        if not found:
            raise DataError(f'photograph "{written}" does not match the whole name "{name}", or finds nothing in it')
        return found

    return find


def of_authentic(names: Iterable[str], fakes: Collection[str], tell: Rule) -> dict[str, str]:
    """Return the photograph of each authentic image: what tells apart the fakes of one need not be in its own name.

    It is its whole name where fakes show a photograph of that name, else what the rule says where fakes show that. An
    image without a fake goes by the rule where others do and none by its whole name, and else by its whole name.

    Args:
        names: their bare names.
        fakes: the photographs that fakes show.
        tell: the rule of the fakes.
    """
    ruled = {name: _by_rule(name, tell) for name in names}
    whole = ruled.keys() & set(fakes)
    by_rule = not whole and not set(fakes).isdisjoint(ruled.values())
    return {name: shown if name not in whole and (by_rule or shown in fakes) else name for name, shown in ruled.items()}


def _by_rule(name: str, tell: Rule) -> str:
    """Return the photograph by the rule; the whole name where the rule does not match."""
    try:
        return tell(name)
    except DataError:
        return name
