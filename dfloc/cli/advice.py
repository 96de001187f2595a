"""Options that a message advises and the command of the moment lacks: which command has them is said too."""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module

import click

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def completed(message: str, words: Sequence[str], commands: Mapping[str, str]) -> str:
    """Return a message with the command of each option in it that the present command lacks.

    An error is worded where it arises, which is below several commands.

    Args:
        message: what is told.
        words: of the command line, without `dfloc`.
        commands: name -> `module:attribute`, as `dfloc.cli` has them.
    """
    advised = dict.fromkeys(OPTION.findall(message))
    name = next((word for word in words if word in commands), "")
    own = _options(name, commands) if name else {}
    here = next((one for one in own if one.split() == [*words][: len(one.split())]), name)
    lacking = [option for option in advised if option not in own.get(here, ())]
    if not lacking:
        return message
    known = {one: options for each in commands for one, options in _options(each, commands).items()}
    for option in lacking:
        having = [one for one, options in known.items() if option in options]
        if having and not any(re.search(rf"\bdfloc {one}\b.*{option}\b", message) for one in having):
            message += f" ({option} is an option of {' and '.join(f'dfloc {one}' for one in having)})"
    return message


def _options(name: str, commands: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the options of a command, or of each one of a group, by its words."""
    module, _, attribute = commands[name].partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    group = command.commands if isinstance(command, click.Group) else {}
    parts = {f"{name} {one}": part for one, part in group.items()} or {name: command}
    return {
        one: {word for each in part.params for word in (*each.opts, *each.secondary_opts)}
        for one, part in parts.items()
    }
