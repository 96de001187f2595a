"""Pages in a headless Chromium, driven over a pipe as its DevTools protocol says: no library, no port."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "about:blank")
SEND, RECEIVE = 3, 4  # the descriptors that the browser reads and writes


def path() -> str | None:
    """Return where the browser is; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser.

    Attributes:
        session: what its messages are told apart by.
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, os.fdopen(receive, "rb")
        self._rest, self._number, self.session = b"", 0, ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")

    def ask(self, method: str, **values: Any) -> Any:
        """Return what the browser answers to a command.

        Raises:
            RuntimeError: it is refused, or the browser has ended.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def show(self, file: Path, width: int, height: int = 1000) -> None:
        """Open a page in a window of some pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", media="")
        self.ask("Page.navigate", url=file.resolve().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return the value of the last expression of a script in the page.

        Raises:
            RuntimeError: it throws.
        """
        answer = self.ask("Runtime.evaluate", expression=f"{{ {script}\n}}", returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def printed(self) -> bytes:
        """Return the page as PDF, on the paper that it asks for."""
        data = self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
        return base64.b64decode(data)

    def shot(self) -> bytes:
        """Return what the window shows as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._receive.fileno(), 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        first, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(first)
        return found


@contextmanager
def browser() -> Iterator[Browser]:
    """Start the browser; it ends afterwards."""
    ours, theirs = os.pipe(), os.pipe()
    wired = f'exec "$0" "$@" {SEND}<&{ours[0]} {RECEIVE}>&{theirs[1]}'
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ("--remote-debugging-pipe", f"--user-data-dir={folder}", *OPTIONS)
        process = subprocess.Popen(
            ["bash", "-c", wired, path() or "", *options],
            pass_fds=(ours[0], theirs[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        try:
            yield Browser(ours[1], theirs[0])
        finally:
            os.close(ours[1])
            process.terminate()
            process.wait(30)
