"""Every option that a message of the package advises is one, and the command that lacks it says whose it is."""

import ast
from collections.abc import Iterator

import pytest

from dfloc import cli
from dfloc.cli.advice import OPTION, _options, completed
from dfloc.cli.group import COMMANDS
from dfloc.errors import DataError
from tests.test_house import TREES

# Options of other programs, and of every command.
OTHERS = {
    "--head",
    "--always",
    "--dirty",
    "--abbrev",
    "--exclude",
    "--gcs-address",
    "--autoscaling-config",
    "--backend-store-uri",
    "--artifacts-destination",
    "--workers",
    "--help",
    "--no-build-isolation",
}


def texts() -> Iterator[tuple[str, str]]:
    """Yield every text of the package that is no docstring, f-strings whole: (place, text)."""
    for name, tree in TREES.items():
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
                yield f"{name}:{node.lineno}", "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                yield f"{name}:{node.lineno}", node.value


ADVISING = [(place, text) for place, text in texts() if OPTION.search(text)]


def known() -> dict[str, set[str]]:
    return {one: options for name in COMMANDS for one, options in _options(name, COMMANDS).items()}


def test_every_option_that_is_advised_exists() -> None:
    there = set().union(*known().values()) | OTHERS
    odd = [(place, option) for place, text in ADVISING for option in OPTION.findall(text) if option not in there]
    assert odd == []


def test_many_messages_are_looked_at() -> None:
    found = {option for _, text in ADVISING for option in OPTION.findall(text)}
    assert {"--allow-overlap", "--wait", "--workspace", "--set", "--device"} <= found


@pytest.mark.parametrize("command", sorted(known()))
def test_a_command_never_advises_an_option_without_saying_whose_it_is(command: str) -> None:
    options = known()
    for place, text in ADVISING:
        said = completed(text, [*command.split(), "something"], COMMANDS)
        for option in set(OPTION.findall(text)) - options[command] - OTHERS:
            having = [one for one, has in options.items() if option in has]
            assert any(f"dfloc {one}" in said for one in having), (place, option, said)


@pytest.mark.parametrize(
    ("words", "message", "expected"),
    [
        (["sweep", "x"], "go on with --allow-overlap", " (--allow-overlap is an option of dfloc data import)"),
        (["data", "import", "x"], "go on with --allow-overlap", ""),
        (["data", "check", "x"], "go on with --allow-overlap", " (--allow-overlap is an option of dfloc data import)"),
        (["doctor"], "or wait with --wait", " (--wait is an option of dfloc sweep and dfloc evaluate)"),
        (["sweep", "x"], "or wait with --wait", ""),
        (["diff", "a", "b"], "score it: dfloc evaluate a --data DIR", ""),
        (["sweep", "x"], "start one by `ray start --head`", ""),
        ([], "name it by --set a=b", " (--set is an option of dfloc sweep)"),
    ],
)
def test_an_option_of_another_command_is_told_with_it(words: list[str], message: str, expected: str) -> None:
    assert completed(message, words, COMMANDS) == message + expected


def test_an_error_on_screen_has_the_command_of_what_it_advises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def overlapping(options: object) -> str:
        raise DataError("one photograph lies in two splits; go on with --allow-overlap")

    monkeypatch.setattr("dfloc.sweep.prepare.merged", overlapping)
    monkeypatch.setattr("sys.argv", ["dfloc", "sweep", "exposure", "--print"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit):
        cli.main()
    assert "--allow-overlap (--allow-overlap is an option of dfloc data import)" in capsys.readouterr().err
