import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from dfloc.errors import ConfigError
from dfloc.models import clip, hub

CONFIG = {"hf_hub": "someone/something/", "mean": (0.0,), "std": (1.0,)}


@pytest.fixture(autouse=True)
def _nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


def ask(url: str, monkeypatch: pytest.MonkeyPatch, library: object = None) -> str:
    """Ask for a tag that the hub has at this address; the library itself must not try unless it is given."""
    monkeypatch.setattr(hub, "hf_hub_url", lambda repository, file: url)
    monkeypatch.setattr(open_clip, "download_pretrained", library or (lambda config: pytest.fail("tried for long")))
    return hub.file("clip-rn50", "openai", CONFIG, same="clip-rn50")


@pytest.fixture
def server() -> Iterator[tuple[HTTPServer, list[int]]]:
    """A server that answers every HEAD with the number that stands in the list."""
    answers = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made, answers
    made.shutdown()
    thread.join()
    made.server_close()


def test_nobody_there_is_one_error_soon_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.safetensors"
    start = time.monotonic()
    with pytest.raises(ConfigError) as told:
        ask(url, monkeypatch)
    assert time.monotonic() - start < 5
    assert str(told.value).startswith('weights "openai" of clip-rn50 are not in the cache and cannot be fetched (')
    assert f"put the file {url} where every node reads it" in str(told.value)
    assert """--set 'trial.weights={"clip-rn50": PATH}'""" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(ConfigError, match="timed out"):
            ask(f"http://127.0.0.1:{silent.getsockname()[1]}/file", monkeypatch)
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("answer", [200, 302, 401, 404])
def test_a_server_that_answers_is_the_librarys_matter(
    server: tuple[HTTPServer, list[int]], answer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, answers = server
    answers[0] = answer
    asked = []
    url = f"http://127.0.0.1:{made.server_port}/file"
    assert ask(url, monkeypatch, lambda config: asked.append(config) or "fetched") == "fetched"
    assert asked == [CONFIG]


def test_a_server_in_trouble_and_a_download_that_fails(
    server: tuple[HTTPServer, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, answers = server
    url = f"http://127.0.0.1:{made.server_port}/file"

    for kind in (FileNotFoundError, ValueError, type("TransportError", (Exception,), {})):

        def fail(config: object, kind: type[Exception] = kind) -> str:
            raise kind("Failed to download file\nfor a reason")

        with pytest.raises(ConfigError, match=r"cannot be fetched \(Failed to download file\); put the file"):
            ask(url, monkeypatch, fail)
    answers[0] = 503
    with pytest.raises(ConfigError, match=r"cannot be fetched \(HTTP Error 503: Service Unavailable\)"):
        ask(url, monkeypatch)


def test_the_cure_names_the_backbone_that_computes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(hub, "_reach", unreachable)
    with pytest.raises(
        ConfigError, match=r"vit_base_patch32_clip_224\.openai/resolve/main/open_clip_model\.safetensors"
    ):
        clip.make("clip:ViT-B-32", "openai", "cpu")
    with pytest.raises(ConfigError, match=r'{"clip:ViT-B-32-quickgelu": PATH}., with maps of clip:ViT-B-32-quickgelu'):
        clip.make("clip:ViT-B-32", "openai", "cpu")
    with pytest.raises(ConfigError, match=r"""{"clip-vit-l14": PATH}'$"""):
        clip.make("clip-vit-l14", "openai", "cpu")
    with pytest.raises(ConfigError, match=r"""{"clip:ViT-B-32": PATH}'$"""):
        clip.make("clip:ViT-B-32", "laion2b_s34b_b79k", "cpu")


def test_a_file_that_a_repository_has_under_another_name_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, name: str, revision: str | None) -> str:
        asked.append((repository, name, revision))
        if name == "model.safetensors":
            raise LocalEntryNotFoundError("no such file")
        return f"fetched/{name}"

    monkeypatch.setattr(hub, "_reach", lambda url: None)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    found = hub.fetched("a/b", ("model.safetensors", "model.bin"), "c", what="weights", cure="name it")
    assert found == "fetched/model.bin"
    assert asked == [("a/b", "model.safetensors", "c"), ("a/b", "model.bin", "c")]


def test_a_repository_without_any_of_the_files_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, name: str, revision: str | None) -> str:
        raise LocalEntryNotFoundError("no such file")

    monkeypatch.setattr(hub, "_reach", lambda url: None)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(ConfigError, match=r"^weights of x are not .* fetched \(a/b has none\); put .*a/b.*name it"):
        hub.fetched("a/b", ("model.bin",), None, what="weights of x", cure="name it")
