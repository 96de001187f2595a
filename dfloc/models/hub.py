"""The file of a library's tag: from the cache, or fetched; soon an error where neither can be."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError

from dfloc.errors import ConfigError

SECONDS = 5.0  # that a server has to answer; open_clip itself tries for three quarters of a minute


def file(backbone: str, tag: str, config: Mapping[str, Any], same: str) -> str:
    """Return the path of the file of a tag of open_clip's.

    Args:
        backbone: whose it is, for messages.
        tag: its name, for messages.
        config: what open_clip's table says of it.
        same: the backbone that computes with the file alone as this one does with the tag, for messages.

    Raises:
        ConfigError: it is not in the cache and cannot be fetched (says what to put where).
    """
    import open_clip
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, name = config["hf_hub"].rpartition("/")
    safe = str(PurePosixPath(name).with_suffix(".safetensors")) if name else HF_SAFE_WEIGHTS_NAME
    names = (safe, name or HF_WEIGHTS_NAME)
    for each in names:
        cached = try_to_load_from_cache(repository, each)
        if isinstance(cached, str):
            return cached
    url = hf_hub_url(repository, names[0])
    try:
        _reach(url)
        return str(open_clip.download_pretrained(config))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        maps = "" if same == backbone else f", with maps of {same}"
        raise ConfigError(
            f'weights "{tag}" of {backbone} are not in the cache and cannot be fetched ({reason}); put the file '
            f"{url} where every node reads it, and name it by --set 'trial.weights={{\"{same}\": PATH}}'{maps}"
        ) from error


def fetched(repository: str, names: Sequence[str], revision: str | None, *, what: str, cure: str) -> str:
    """Return the path of the first of some files that a repository of the hub has.

    Args:
        repository: its name.
        names: of the files, the best one first.
        revision: of the repository; None: the newest.
        what: is fetched, for messages.
        cure: how a user names a file, for messages.

    Raises:
        ConfigError: none is in the cache and none can be fetched (says what to put where).
    """
    for name in names:
        cached = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str):
            return cached
    url = hf_hub_url(repository, names[0], revision=revision)

    def refused(reason: str) -> ConfigError:
        return ConfigError(
            f"{what} are not in the cache and cannot be fetched ({reason}); put the file {url} where every node reads "
            f"it, and {cure}"
        )

    try:
        _reach(url)
        for name in names:
            try:
                return str(hf_hub_download(repository, name, revision=revision))
            except EntryNotFoundError:
                continue
    except Exception as error:
        raise refused(str(error).partition("\n")[0]) from error
    raise refused(f"{repository} has none")


def published(url: str, *, what: str) -> str:
    """Return the path of a file that is not on the hub, in torch's own cache, its digest checked where named.

    Args:
        url: of the file; a name such as `xception-43020ad28.pth` ends with the first digits of its sha256.
        what: is fetched, for messages.

    Raises:
        ConfigError: it is not in the cache and cannot be fetched (says what to put where).
    """
    name = PurePosixPath(url).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return str(path)
    digits = re.search(r"-([0-9a-f]{8,})\.", name)
    try:
        _reach(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digits[1] if digits else None, progress=False)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{what} are not in the cache and cannot be fetched ({reason}); put the file {url} at {path} on every node"
        ) from error
    return str(path)


def _reach(url: str) -> None:
    try:
        urlopen(Request(url, method="HEAD"), timeout=SECONDS).close()
    except HTTPError as error:
        if error.code >= 500:
            raise
