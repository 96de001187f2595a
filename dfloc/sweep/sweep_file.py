"""A sweep file: found, merged (file < preset < --set), and the line that is to blame for a mistake."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

import dfloc
from dfloc.errors import ConfigError, unknown
from dfloc.sweep import validation_errors, yaml_text
from dfloc.sweep.fields import spelled_out, yielding
from dfloc.sweep.setting import Setting, holds
from dfloc.sweep.sweep_keys import NAME, NAMED, StudyAsk, field_names


class SweepFile:
    """A sweep file with its preset and settings merged in.

    Args:
        path: the YAML file.

    Attributes:
        values: the merged content, `presets` and removed (null) keys left out; set by `choose`.
        preset: the chosen preset.

    Raises:
        ConfigError: the file is empty, too large, no mapping, or no YAML; names the line.
    """

    def __init__(self, path: Path):
        self.path = path
        self.preset = ""
        self.values: dict[str, Any] = {}
        self._settings: list[Setting] = []
        self._text = yaml_text.read(path)
        content = self._text.values
        self._shapes(content)
        content = spelled_out(content, self._giver)
        self._presets = content.pop("presets", None) or {}
        self._content = OmegaConf.create(content)
        self._merged: tuple[Any, Any] | None = None

    def presets(self) -> list[str]:
        """Return the names of the presets."""
        return list(self._presets)

    @property
    def title(self) -> str:
        """The study in one line."""
        return str(self._content.get("title", ""))

    @property
    def domains(self) -> list[str]:
        """The study's domains as the file itself has them, without a preset."""
        value = self._content.get("domains")
        return [str(name) for name in value] if OmegaConf.is_list(value) else []

    def domains_asked(self, preset: str, settings: Sequence[str] = ()) -> Any:
        """Return `domains` as written: a list of names, "data", or "data:2" (its first two local domains)."""
        merged = self._merge(preset, settings)
        try:
            value = merged.get("domains")
            return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except Exception as error:
            raise self._unresolved(error) from error

    def choose(self, preset: str, settings: Sequence[str] = (), domains: Sequence[str] | None = None) -> "SweepFile":
        """Merge a preset and `--set` settings in, resolve every `${...}`, and return this file.

        Args:
            preset: a name of `presets`.
            settings: `key=value` texts, later ones win.
            domains: full names that replace `domains`.

        Raises:
            ConfigError: an unknown preset, a setting without `=`, a key that no sweep has, an unknown `${...}`.
        """
        merged, self._merged = self._merge(preset, settings), None
        if domains is not None:
            merged["domains"] = list(domains)
        try:
            values = OmegaConf.to_container(merged, resolve=True)
        except Exception as error:
            odd = [key for key in merged if key not in field_names(StudyAsk, ())]
            also = f'; is it "{odd[0]}", which no sweep has?' if odd else ""
            raise ConfigError(f"{self._unresolved(error)}{also}") from error
        assert isinstance(values, dict)
        self.values = spelled_out(_without_nulls(values), lambda path: self._giver(path, changed=True))
        return self

    def mistake(
        self, error: ValidationError, model: type[BaseModel], where: Callable[[tuple[str, ...]], str] | None = None
    ) -> ConfigError:
        """Return what pydantic found in a model as one sentence, with where each field was given, and what is near."""
        found = validation_errors.distinct(error)
        fields = [tuple(map(str, one.loc)) for one in found]
        places = [where(field) if where else self.where(*field) for field in fields]
        return ConfigError(validation_errors.sentences(list(zip(places, found, strict=True)), model))

    def where(self, *path: str) -> str:
        """Return where a key stands: the `--set` that gave it, or file and line."""
        return self.place([".".join(path)])

    def place(self, paths: Sequence[str]) -> str:
        """Return where the first of some keys stands that there is; where there is none, what it should stand in."""
        wanted = [path.split(".") for path in paths]
        if not any(holds(self.values, parts) for parts in wanted):
            for setting in reversed(self._settings):
                if setting.value is None and any(setting.gives(parts) for parts in wanted):
                    return str(setting)
        for dropped in range(max(map(len, wanted))):
            for parts in wanted:
                kept = parts[: len(parts) - dropped]
                if kept and holds(self.values, kept):
                    return self._giver(kept, changed=not dropped)
        return str(self.path)

    def giver(self, key: str) -> str:
        """Return where a key of the file was given, before anything is merged; to be asked after `domains_asked`."""
        return self._giver([key], changed=True)

    def _giver(self, parts: Sequence[str], changed: bool = False) -> str:
        """Return where a key was given: a line, or the last `--set`, before the line if it is `changed` by it."""
        line = self._line(parts)
        for setting in reversed(self._settings if changed or not line else []):
            if setting.gives(parts) or (changed and setting.lies_below(parts)):
                return str(setting)
        above = (self._line(parts[:kept]) for kept in range(len(parts), 0, -1))
        line = next(filter(None, above), None)
        return f"{self.path} line {line}" if line else str(self.path)

    def _line(self, parts: Sequence[str]) -> int | None:
        return self._text.line(["presets", self.preset, *parts]) or self._text.line(parts)

    def written(self) -> str:
        """Return the merged content as a sweep file of its own, with the same plan."""
        return yaml_text.written(self.values)

    def _shapes(self, content: Any) -> None:
        """Refuse what cannot be merged."""
        if not isinstance(content, dict) or "stages" not in content:
            keys = "name, title, domains, trial and stages"
            raise ConfigError(f"{self.path} should be a sweep file with the keys {keys}")
        presets = content.get("presets") or {}
        self._mapping(content["stages"], "stages")
        self._mapping(presets, "presets")
        for name, body in presets.items():
            self._mapping(body or {}, "presets", name)
            if not NAME.fullmatch(name):
                raise ConfigError(f'{self._giver(["presets", name])}: preset "{name}" should be named by {NAMED}')
        for name, body in content["stages"].items():
            cases = body.get("cases") if isinstance(body, dict) else None
            empty = [case for case, inside in cases.items() if inside is None] if isinstance(cases, dict) else []
            if body is None:
                raise ConfigError(f"{self._giver(['stages', name])}: stage {name} is empty; say what it trains")
            if empty:
                where = self._giver(["stages", name, "cases", empty[0]])
                raise ConfigError(
                    f"{where}: case {empty[0]} of stage {name} is empty; write {{}} where it adds nothing"
                )

    def _mapping(self, value: Any, *path: str) -> None:
        if not isinstance(value, dict):
            what = f"{'.'.join(path)} should be a mapping (NAME: ...), but it is {yaml_text.shown(value)}"
            raise ConfigError(f"{self._giver(path)}: {what}")

    def _merge(self, preset: str, texts: Sequence[str]) -> Any:
        if self.presets() and preset not in self.presets():
            raise unknown("preset", preset, self.presets())
        if not NAME.fullmatch(preset):
            raise ConfigError(f"--preset should be named by {NAMED}, but it is {yaml_text.shown(preset)}")
        if self._merged and self._merged[0] == (preset, *texts):
            return self._merged[1]
        self.preset, self._settings = preset, [Setting.read(one) for one in texts]
        chosen = OmegaConf.create(self._presets.get(preset) or {})
        try:
            merged = _over(self._content, chosen)
        except Exception as error:
            raise ConfigError(f"{self._giver(['presets', preset])}: preset {preset}: {_clash(error)}") from error
        said, found = OmegaConf.create({}), merged
        for setting in self._settings:
            setting.check(merged, said)
            values = spelled_out(setting.nested, partial(_said, setting))
            try:
                said = _over(said, OmegaConf.create(values))
                found = _over(merged, said)
            except Exception as error:
                raise ConfigError(f"{setting}: {_clash(error)}") from error
        self._merged = (preset, *texts), found
        return found

    def _unresolved(self, error: Exception) -> ConfigError:
        """Return what is wrong with a `${...}`, and where it stands."""
        key = str(getattr(error, "full_key", None) or "")
        lacking = re.search(r"(?:Interpolation key|Error resolving key) '(.*?)'", str(error))
        why = "it stands for itself" if "ecursi" in str(error) else _first_line(error)
        if lacking:
            why = f"${{{yaml_text.cut(lacking[1])}}} names no key of the sweep"
        parts = re.split(r"[.\[\]]+", key.rstrip("]"))
        return ConfigError(f"{self._giver(parts, changed=True)}: {key}: {why}")


def find(name: str) -> Path:
    """Return the path of a sweep: a file, or the name of one that dfloc ships.

    Raises:
        ConfigError: there is none; says what is near.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.exists():
            raise ConfigError(f"sweep file {name} does not exist; `dfloc list sweeps` names those that dfloc has")
        return path
    shipped_ones = shipped()
    if name not in shipped_ones:
        raise unknown("sweep", name, shipped_ones)
    return shipped_ones[name]


def shipped() -> dict[str, Path]:
    """Return the sweeps that dfloc ships, by name: beside the package in a checkout, inside it in a wheel."""
    package = Path(dfloc.__file__).parent
    for folder in (package / "sweeps", package.parent / "sweeps"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if found:
            return found
    return {}


def _said(setting: Setting, path: Sequence[str]) -> str:
    """Return where a key of a setting stands."""
    return str(setting)


def _over(content: Any, later: Any) -> Any:
    values, new = OmegaConf.to_container(content), OmegaConf.to_container(later)
    return OmegaConf.merge(OmegaConf.create(yielding(values, new)), later)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _clash(error: Exception) -> str:
    """Return why two parts of a sweep cannot be merged."""
    clash = "Cannot merge" in str(error)
    return "a list stands where the sweep has a mapping, or the other way round" if clash else _first_line(error)


def _first_line(error: Exception) -> str:
    """Return the first line of what a library says, or what it calls it."""
    return next(iter(str(error).splitlines()), type(error).__name__)
