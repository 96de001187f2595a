"""The Ray of this process, started in one place, and what comes back from its workers."""

import contextlib
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from upath import UPath

from dfloc import driver_notes, storage
from dfloc.errors import ConfigError, DflocError
from dfloc.ray_log import RayLog
from dfloc.temp import TempFolder

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
PROBE_SECONDS = 5
LOST, LOST_SECONDS = "RAY_gcs_rpc_server_reconnect_timeout_s", 5
"""How long processes of a Ray on one machine look for its gcs_server, when that is gone: a minute by default."""

RAY = ("gcs_server", "raylet")
"""Processes without which Ray is gone."""


class Workers:
    """A Ray of this process, or the one at an address; a context manager.

    Workers find what is installed and what PYTHONPATH names, as the driver does. Ray would put the current folder and
    the script's before that, so that another dfloc, or a `random.py`, that lies there would run instead: it is started
    from an empty folder. Workers live there too: every path that they are told is absolute.

    Args:
        address: of a running Ray; None = one is started here.
        log: file of Ray's own lines; None = in a temp folder, which stays where Ray could not be started.
    """

    def __init__(self, address: str | None = None, log: UPath | None = None):
        self.address = None if address == "local" else address
        self.log = log
        self._folder: TempFolder | None = None
        self._ray_log: RayLog | None = None

    def __enter__(self) -> "Workers":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Connect or start, once; a Ray that this process has already is used, and not ended.

        Raises:
            ConfigError: Ray cannot be started; or nothing answers at the address, or it refuses this machine's token.
        """
        os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
        try:
            import ray

            if ray.is_initialized():
                return
            _probe(self.address)
            self._begin()
        except DflocError:
            self.stop()
            raise
        except Exception as error:
            explained = self._explained(error)
            self.stop(failed=True)
            raise explained from error
        except BaseException:
            self.stop()
            raise

    def stop(self, failed: bool = False) -> None:
        """End what was started; of a process that was asked to end, its parent does it: Ray itself takes its time.

        Args:
            failed: leave the log where it is named.
        """
        leave = failed and self._ray_log is not None and self.log is None
        facts = driver_notes.facts()
        if facts.get("watched") and (isinstance(sys.exception(), KeyboardInterrupt) or driver_notes.gone(facts)):
            return
        if self._ray_log:
            import ray

            driver_notes.note(ray={})
            ray.shutdown()
            self._ray_log.end()
            self._ray_log = None
        if self._folder:
            self._folder.leave() if leave else self._folder.remove()
            self._folder = None
            driver_notes.note(temp="")

    def _begin(self) -> None:
        import ray

        self._folder = TempFolder()
        empty = self._folder.path / "empty"
        empty.mkdir()
        self._ray_log = RayLog(self._log)
        self._ray_log.begin()
        driver_notes.note(log=str(storage.local(self._log).absolute()), temp=str(self._folder.path))
        with _from(empty):
            try:
                self._init()
            except Exception as error:
                if self.address or not (type(error) is Exception or isinstance(error, TimeoutError)):
                    raise
                ray.shutdown()  # Ray waited for 30 s for its own processes: a machine that is busy starting others
                self._init()
        self._ray_log.begun()

    def _init(self) -> None:
        import ray

        assert self._folder is not None
        # Ray's own handler of TERM ends everything, with exit code 1 and without a word.
        ray._private.utils.set_sigterm_handler = lambda handler: None
        # Below a folder that is private: Ray opens this one to everybody.
        if not self.address:
            os.environ.setdefault(LOST, str(LOST_SECONDS))
        own = {} if self.address else {"_temp_dir": str(self._folder.path / "r"), "include_dashboard": False}
        with without_log_monitor():
            ray.init(
                address=self.address or "local",
                log_to_driver=False,
                logging_level=logging.WARNING,
                configure_logging=False,
                **own,
            )
        ray._private.worker.print_to_stdstream = self._log_line  # what it says of its own processes
        if not self.address:
            driver_notes.note(ray={one.name(): one.pid for one in psutil.Process().children() if one.name() in RAY})

    def _log_line(self, data: dict[str, Any], *_: object, **__: object) -> None:
        logging.getLogger("ray").warning("\n".join(map(str, data["lines"])))

    @property
    def _log(self) -> UPath:
        assert self._folder is not None
        return self.log or UPath(self._folder.path / "ray.log")

    def _explained(self, error: Exception) -> ConfigError:
        """Return what went wrong, in one line, and where more of it is."""
        see = f"; see {self._log}" if self._ray_log else ""
        if "AuthenticationError" in f"{error!r} {error.__cause__!r}":
            return ConfigError(
                f"the Ray at {self.address} refuses this machine's token: put the cluster's token into "
                f"~/.ray/auth_token and set RAY_AUTH_MODE=token here{see}"
            )
        where = f"answers at {self.address}" if self.address else "could be started"
        return ConfigError(f"no Ray {where}: {_first_line(error) or type(error).__name__}{see}")


@contextlib.contextmanager
def without_log_monitor() -> Iterator[None]:
    """Start no process that passes on what workers print: nobody asked for it (`log_to_driver`); it costs seconds."""
    from ray._private.node import Node

    start = getattr(Node, "start_log_monitor", None)
    Node.start_log_monitor = lambda node: None
    try:
        yield
    finally:
        if start:
            Node.start_log_monitor = start


@contextlib.contextmanager
def _from(empty: Path) -> Iterator[None]:
    """Be in an empty folder, with the current folder and the script's off the path."""
    path, python_path = list(sys.path), os.environ.get("PYTHONPATH")
    here = {Path.cwd().resolve(), Path(sys.argv[0]).resolve().parent}
    sys.path[:] = [entry for entry in path if entry and Path(entry).resolve() not in here]
    if python_path is not None:
        entries = (entry for entry in python_path.split(os.pathsep) if entry)
        os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries)
    try:
        with contextlib.chdir(empty):
            yield
    finally:
        sys.path[:] = path
        if python_path is not None:
            os.environ["PYTHONPATH"] = python_path


def _probe(address: str | None) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for minutes.

    Raises:
        ConfigError: it is no HOST:PORT, or nothing answers there.
    """
    if address in (None, "auto"):
        return
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f'--address should be HOST:PORT or "auto", but it is {address}')
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray answers at {address}: {error}; start one there by `ray start --head`") from error


@contextlib.contextmanager
def quiet_data() -> Iterator[None]:
    """Let Ray Data be put together without progress bars and lines of its own, and raise what a worker raised."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        # Before Ray 2.64 nothing else says how often a dead worker is replaced; by default it is for ever.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        yield


def first_cause(error: BaseException) -> str:
    """Return what went wrong in a worker, in one line out of Ray's many: the error's class and its first line."""
    first = getattr(error, "cause", None) or error
    line = _first_line(first)
    if isinstance(first, DflocError):
        return line
    return f"{type(first).__name__}: {line}" if line else type(first).__name__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "").rstrip(" .")
