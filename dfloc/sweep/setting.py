"""A `--set KEY=VALUE`: what it says, whether the sweep has such a key, and whether it is to blame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from dfloc.errors import ConfigError, did_you_mean
from dfloc.sweep.sweep_keys import BARE, StudyAsk, field_names
from dfloc.sweep.yaml_text import Text, cut


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        text: as it was written.
        parts: its key, piece by piece.
        value: in YAML, read.
    """

    text: str
    parts: tuple[str, ...]
    value: Any

    @classmethod
    def read(cls, text: str) -> "Setting":
        """Return a setting.

        Raises:
            ConfigError: no `=`, no whole key before it, or no YAML behind it.
        """
        key, sign, value = text.partition("=")
        parts = tuple(part.strip() for part in key.split("."))
        if not sign or not key.strip():
            raise ConfigError(f'--set "{_short(text)}" should be key=value, as in --set trial.optimizer.lr=3e-4')
        if not all(parts):
            raise ConfigError(f'--set "{_short(text)}" has nothing between two dots of its key, or at an end of it')
        if "[" in key:
            raise ConfigError(
                f'--set "{_short(text)}" should have words and dots before the =; a list is given whole: [1, 2]'
            )
        return cls(text, parts, Text(value, f"--set {_short(text)}", lines=False).values)

    def __str__(self) -> str:
        return f"--set {_short(self.text)}"

    @property
    def nested(self) -> Any:
        """The value below its keys, as a sweep file has it."""
        value = self.value
        for part in reversed(self.parts):
            value = {part: value}
        return value

    def check(self, content: Any, said: Any) -> None:
        """Refuse a key that no sweep has, and a stage or case that this one has not.

        Args:
            content: the file, its preset merged in.
            said: what the settings before it say.

        Raises:
            ConfigError: says what is near.
        """
        key, parts = f"--set {cut('.'.join(self.parts))}", self.parts
        roots = field_names(StudyAsk, ())
        if parts[0] not in roots:
            raise ConfigError(f'{key}: unknown key "{cut(parts[0])}"; {did_you_mean(parts[0], roots)}')
        if parts[0] == "stages":
            stages = content.get("stages") or {}
            if len(parts) == 1:
                near = f"--set stages.{next(iter(stages), 'NAME')}.train.count=8"
                raise ConfigError(f"{key}: the stages are those of the file; change a key of one, as in {near}")
            self._has(key, "stage", parts[1:2], stages)
            stage = stages[parts[1]]
            if parts[2:3] == ("cases",) and len(parts) > 3:
                cases = (stage.get("cases") if OmegaConf.is_dict(stage) else None) or {}
                self._has(key, "case", parts[3:4], cases)
        for node in (content, said):
            self._not_below_a_list(node)

    def _not_below_a_list(self, node: Any) -> None:
        rest = [*self.parts]
        while rest and node is not None:
            if OmegaConf.is_list(node):
                whole = ".".join(self.parts[: -len(rest)])
                raise ConfigError(
                    f"--set {'.'.join(self.parts)}: {whole} is a list, which is given whole: --set {whole}=[...]"
                )
            words = (str(name).split(".") for name in (node if OmegaConf.is_dict(node) else ()))
            name = next((each for each in words if rest[: len(each)] == each), [])
            key = ".".join(name)
            node = node.get(key) if name and not OmegaConf.is_interpolation(node, key) else None
            rest = rest[len(name) :]

    def _has(self, key: str, kind: str, word: Sequence[str], known: Any) -> None:
        if not word or word[0] not in known:
            name = word[0] if word else ""
            raise ConfigError(f'{key}: unknown {kind} "{cut(name)}"; {did_you_mean(name, map(str, known))}')

    def gives(self, place: Sequence[str]) -> bool:
        """Return whether the value at a path is this one, or lies in it."""
        length = len(self.parts)
        return tuple(place[:length]) == self.parts and holds(self.value, place[length:], self.parts[-1])

    def lies_below(self, place: Sequence[str]) -> bool:
        """Return whether this changes a part of the value at a path."""
        return len(self.parts) > len(place) and self.parts[: len(place)] == tuple(place)


def _short(text: str) -> str:
    """Return a setting as a message has it: the key and the value cut where they are long."""
    key, sign, value = text.partition("=")
    return f"{cut(key)}{sign}{cut(value, 200)}"


def holds(value: Any, parts: Sequence[str], key: str = "") -> bool:
    """Return whether a key's value has something at the end of a path; keys may have dots, and parts too.

    A bare name is the value of one key of the mapping that it stands for; any other value that is no container has all
    that it should have held.
    """
    if not parts:
        return True
    if isinstance(value, Mapping):
        words = {name: str(name).split(".") for name in value}
        return any(
            holds(value[name], parts[len(each) :], str(name))
            for name, each in words.items()
            if [*parts[: len(each)]] == each
        )
    if isinstance(value, list):
        return parts[0].isdecimal() and int(parts[0]) < len(value) and holds(value[int(parts[0])], parts[1:])
    return not isinstance(value, str) or BARE.get(key, parts[0]) == parts[0]
