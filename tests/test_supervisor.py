"""How a command ends that is killed or asked to end: its line, its exit code, and what it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from dfloc import cli, driver_notes, shutdown, supervisor
from dfloc.cli import group
from dfloc.driver_notes import DriverNotes
from dfloc.shutdown import Ended, Ending
from tests.command import fresh, wait

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no parent elsewhere")

SCRIPT = """
import _thread, os, signal, subprocess, sys, threading, time
from dfloc import cli, driver_notes
from dfloc.cli import group

sys.argv = ["dfloc", "sweep", "it's", "--wait"]

def native():
    os.write(1, b"begun\\n")
    signal.pthread_sigmask(signal.SIG_BLOCK, set())
    lock = threading.Lock()
    while True:  # as native code, which never comes back to Python
        try:
            lock.acquire(); lock.acquire()
        except KeyboardInterrupt:
            pass

def work():
    os.write(1, b"begun\\n")
    while True:
        time.sleep(0.05)

def prints():
    while True:
        print("begun", flush=True)

def twice():
    note = driver_notes.note
    def noted(**facts):
        note(**facts)
        if "code" in facts:
            os.kill(os.getpid(), signal.SIGTERM)
    driver_notes.note = noted
    os.kill(os.getpid(), signal.SIGTERM)
    work()

def early():
    work()

def slow():
    while True:  # what it leaves behind takes long
        try:
            os.write(1, b"begun\\n")
            time.sleep(600)
        except KeyboardInterrupt:
            pass

def ray():
    one = subprocess.Popen(["sleep", "600"])
    driver_notes.note(ray={"raylet": one.pid}, log="/logs/ray.log", left=3)
    os.write(1, f"ray {one.pid}\\n".encode())
    native()

def quits():
    one = subprocess.Popen(["sleep", "600"])
    driver_notes.note(ray={"raylet": one.pid}, log="/logs/ray.log", left=3)
    os._exit(1)

def counts():
    from dfloc import shutdown
    seen = []
    with shutdown.listening(seen.append):
        os.write(1, b"begun\\n")
        until = time.monotonic() + 3
        while time.monotonic() < until:
            time.sleep(0.05)
    return 10 + len(seen)

def code():
    return 5

group.run = globals()[os.environ["DOES"]]
if os.environ["DOES"] == "early":
    cli.screen.occupy = lambda: os.kill(os.getpid(), signal.SIGINT)
if __name__ == "__main__":
    cli.main()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    script, running = tmp_path / "script.py", list[subprocess.Popen[str]]()
    script.write_text(SCRIPT)

    def run(does: str, **how: Any) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(
                [sys.executable, str(script)],
                text=True,
                env=fresh() | {"DOES": does},
                start_new_session=True,
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how,
            )
        )
        return running[-1]

    yield run
    for one in running:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


def begun(one: subprocess.Popen[str]) -> psutil.Process:
    """Wait until it works; return its driver."""
    assert one.stdout is not None
    assert one.stdout.readline()
    return psutil.Process(one.pid).children()[0].children()[0]


def test_the_parents_have_loaded_next_to_nothing(start: Start) -> None:
    one = start("work")
    driver = begun(one)
    for watches in (psutil.Process(one.pid), driver.parent()):
        assert watches is not None
        assert watches.num_threads() == 1
        assert watches.memory_info().rss < 40 << 20
        before = watches.cpu_times()
        time.sleep(2)
        assert sum(watches.cpu_times()[:2]) - sum(before[:2]) < 0.3
    code = "import sys, dfloc.cli; print({'click', 'ray', 'torch', 'psutil', 'rich', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize("target", ["front", "driver", "all"])
@pytest.mark.parametrize(
    ("does", "number", "code"), [("work", "TERM", 143), ("work", "HUP", 129), ("native", "TERM", 143)]
)
def test_asked_to_end_it_ends_in_time_with_its_code_and_line(
    start: Start, does: str, number: str, code: int, target: str
) -> None:
    one = start(does)
    driver, at = begun(one), time.monotonic()
    send = {"front": one.send_signal, "driver": driver.send_signal, "all": lambda n: os.killpg(one.pid, n)}[target]
    send(getattr(signal, f"SIG{number}"))
    _, err = one.communicate(timeout=30)
    assert one.returncode == code
    assert err == f"ended by {number}; everything finished is saved. Go on with: dfloc sweep 'it'\"'\"'s' --wait\n"
    assert time.monotonic() - at < 12
    assert not driver.is_running()


def test_told_again_and_again_it_is_one_line(start: Start) -> None:
    """`timeout` sends TERM to the process and to its group."""
    one = start("work")
    driver = begun(one)
    with suppress(psutil.NoSuchProcess):
        while driver.status() != psutil.STATUS_ZOMBIE:
            driver.terminate()
    _, err = one.communicate(timeout=30)
    assert one.returncode == 143
    assert re.fullmatch(r"ended by TERM; .*\n", err)


def test_a_screen_that_nobody_reads_keeps_no_ending(start: Start) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while os.write(write, b"-" * 4096):
            pass
    os.set_blocking(write, True)
    one = start("work", stderr=write)
    driver, at = begun(one), time.monotonic()
    one.terminate()
    assert one.wait(30) == 143
    assert time.monotonic() - at < 12
    assert not driver.is_running()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("names", ["TERM", "INT", "INT INT INT"])
def test_output_that_nobody_reads_keeps_no_ending(start: Start, names: str) -> None:
    one = start("prints", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    driver = begun(one)
    time.sleep(1)
    for name in names.split():
        with suppress(psutil.NoSuchProcess):
            driver.send_signal(getattr(signal, f"SIG{name}"))
        time.sleep(0.2)
    assert one.wait(30) == (143 if names == "TERM" else 130)
    assert one.stderr is not None
    cause = "ended by TERM" if names == "TERM" else "Interrupted"
    assert one.stderr.read() == f"{cause}; everything finished is saved. Go on with: dfloc sweep 'it'\"'\"'s' --wait\n"


def test_a_second_signal_takes_no_last_line_away(start: Start) -> None:
    one = start("twice")
    _, err = one.communicate(timeout=30)
    assert one.returncode == 143
    assert re.fullmatch(r"ended by TERM; .*\n", err)


def test_a_ctrl_c_before_anything_has_begun_is_one_line_too(start: Start) -> None:
    one = start("early", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    _, err = one.communicate(timeout=30)
    assert one.returncode == 130
    assert re.fullmatch(r"Interrupted; .*\n", err)


def test_killed_by_signal_9_the_parent_says_so_with_the_memory(start: Start) -> None:
    one = start("work")
    begun(one).kill()
    _, err = one.communicate(timeout=30)
    assert one.returncode == 137
    assert err.startswith("killed by signal 9, when it and its workers held 0.0 of ")
    assert err.endswith("everything finished is saved. Go on with: dfloc sweep 'it'\"'\"'s' --wait\n")
    assert len(err.splitlines()) == 1


def test_killed_in_the_middle_the_first_says_so_and_leaves_nothing(start: Start) -> None:
    one = start("ray")
    driver = begun(one)
    below = [driver, *driver.children(recursive=True)]
    driver.parent().kill()
    _, err = one.communicate(timeout=30)
    assert one.returncode == 137
    assert err == (
        "the process that kept the driver was killed by signal 9; everything finished is saved; 3 to run. "
        "Go on with: dfloc sweep 'it'\"'\"'s' --wait\n"
    )
    assert [process for process in below if process.is_running()] == []


def test_a_process_of_another_user_does_not_stop_the_tidying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(error: type[OSError]) -> Callable[..., None]:
        def call(*_: object) -> None:
            raise error

        return call

    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(supervisor.memory, "descendants", lambda pid: [1])
    monkeypatch.setattr(os, "kill", refuse(PermissionError))
    monkeypatch.setattr(os, "waitpid", refuse(ChildProcessError))
    supervisor._sweep({"temp": str(tmp_path / "temp")})
    assert not (tmp_path / "temp").exists()


def test_a_driver_that_was_killed_is_not_taken_for_one_whose_ray_is_gone() -> None:
    """Ray's processes end with their driver, and the parent may see that first."""
    driver, ray = (subprocess.Popen(["sleep", "600"]) for _ in range(2))
    page = DriverNotes()
    page.mine()
    try:
        driver_notes.note(ray={"raylet": ray.pid}, watched=True)
        keeper = supervisor._Keeper(driver.pid, os.getpid(), page, {signal.SIGCHLD})
        for one in (driver, ray):
            one.kill()
            os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        keeper._look()
        line, code = keeper._ended(os.waitpid(driver.pid, 0)[1], page.read())
    finally:
        page.close()
        ray.wait()
    assert (line[:19], code) == ("killed by signal 9,", 137)


def test_who_is_started_takes_everything_along(start: Start) -> None:
    one = start("ray")
    driver = begun(one)
    below = [driver, *driver.children(recursive=True), *driver.parents()[:1]]
    assert len(below) == 3
    one.kill()
    one.wait()
    assert psutil.wait_procs(below, 5)[1] == []


@pytest.mark.parametrize("does", ["ray", "quits"])
def test_a_ray_that_is_gone_is_one_line_soon(start: Start, does: str) -> None:
    one, at = start(does), time.monotonic()
    if does == "ray":
        assert one.stdout is not None
        os.kill(int(one.stdout.readline().split()[1]), signal.SIGKILL)
    _, err = one.communicate(timeout=30)
    assert one.returncode == shutdown.GONE
    assert err.startswith("Ray's raylet")
    assert "is gone, and the driver with it; everything finished is saved; 3 to run; log: /logs/ray.log. Go on" in err
    assert len(err.splitlines()) == 1
    assert time.monotonic() - at < 15


@pytest.mark.parametrize("to", ["front", "group"])
def test_a_ctrl_c_comes_once_whoever_it_was_sent_to(start: Start, to: str) -> None:
    one = start("counts", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    begun(one)
    one.send_signal(signal.SIGINT) if to == "front" else os.killpg(one.pid, signal.SIGINT)
    assert one.wait(30) == 11


@pytest.mark.parametrize("name", ["HUP", "INT"])
def test_what_is_ignored_at_the_start_stays_ignored(start: Start, name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    one = start("counts", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    begun(one)
    os.killpg(one.pid, number)
    assert one.wait(30) == 10


def test_the_exit_code_is_passed_on(start: Start) -> None:
    one = start("code")
    assert one.communicate(timeout=60) == ("", "")
    assert one.returncode == 5


@pytest.mark.parametrize("then", ["TERM", "INT"])
def test_a_slow_end_is_named_by_what_asked_first(start: Start, then: str) -> None:
    one = start("slow", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    driver = begun(one)
    driver.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    driver.send_signal(getattr(signal, f"SIG{then}"))
    _, err = one.communicate(timeout=30)
    assert one.returncode == 129
    assert re.fullmatch(r"ended by HUP; .*\n", err)


def test_a_slate_is_the_drivers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    driver_notes.note(left=1)
    assert driver_notes.facts() == {}
    page = DriverNotes()
    monkeypatch.setenv(driver_notes.VARIABLE, "")
    page.mine()
    driver_notes.note(left=1, log="a")
    driver_notes.note(left=0)
    assert page.read() == driver_notes.facts() == {"left": 0, "log": "a"}
    os.write(page._file.fileno(), b'{"left": 12')
    assert page.read() == {"left": 0, "log": "a"}
    page.close()
    monkeypatch.setenv(driver_notes.VARIABLE, f"{os.getpid() + 1}:1")
    driver_notes.note(left=1)
    assert driver_notes.facts() == {}


def test_what_a_handler_notes_while_another_fact_is_noted_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    dumps = json.dumps

    def interrupted(facts: dict[str, Any]) -> str:
        monkeypatch.setattr(json, "dumps", dumps)
        driver_notes.note(interrupted=1.5)
        return dumps(facts)

    page = DriverNotes()
    monkeypatch.setenv(driver_notes.VARIABLE, "")
    page.mine()
    monkeypatch.setattr(json, "dumps", interrupted)
    driver_notes.note(left=2)
    assert page.read() == {"left": 2, "interrupted": 1.5}
    page.close()


def test_a_process_that_has_ended_is_gone() -> None:
    one = subprocess.Popen(["sleep", "100"])
    facts = {"ray": {"gcs_server": os.getpid(), "raylet": one.pid}}
    assert driver_notes.gone(facts) == driver_notes.gone({}) == ""
    one.kill()
    wait(lambda: driver_notes.gone(facts) == "raylet", 10)
    one.wait()
    assert driver_notes.gone(facts) == "raylet"


def test_a_signal_that_comes_before_it_listens_ends_it_in_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(end: Ending) -> NoReturn:
        raise Ended(signal.SIGTERM)

    ended = list[int]()
    monkeypatch.setattr(Ending, "__enter__", interrupted)
    monkeypatch.setattr(Ending, "now", lambda end, number=0: ended.append(number))
    cli._run()
    assert ended == [signal.SIGTERM]


def test_click_adds_no_line_to_that_of_a_command_which_is_asked_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(ctx: object, name: str) -> NoReturn:
        raise Ended(signal.SIGHUP)

    monkeypatch.setattr(sys, "argv", ["dfloc", "list"])
    monkeypatch.setattr(group.cli, "get_command", asked)
    with pytest.raises(Ended) as ended:
        group.run()
    assert ended.value.number == signal.SIGHUP
    assert capsys.readouterr() == ("", "")
