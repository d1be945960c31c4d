"""What a run changes in its process is as before when it has ended; outputs that nobody reads."""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import jax
import pytest

from jigclu_jax.__main__ import main
from jigclu_jax.device import compilation
from jigclu_jax.run_scope import Lasting, at_end_of_run, is_lost, run_scope, set_environment
from jigclu_jax.train.orbax_logging import quiet_orbax
from jigclu_jax.train.stop import STOP


def settings() -> dict[str, Any]:
    """Everything process-wide that a run may set."""
    return {
        "signals": {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)},
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "filters": {name: list(logging.getLogger(name).filters) for name in ("absl", "asyncio")},
        "hook": sys.unraisablehook,
        "streams": (sys.stdout, sys.stderr),
        "flags": {name: value for name, value in jax.config.values.items() if "cache" in name},
        "stop": STOP.requested,
    }


def test_a_run_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("absl", "asyncio"):  # where there was no run, the filters are the caller's and stay
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    before_dir = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        before = settings()
        with run_scope():
            STOP.install()
            set_environment("TF_CPP_MIN_LOG_LEVEL", "3")
            with run_scope():  # a job inside
                quiet_orbax()
                assert compilation.start_cache() == jax.config.values["jax_compilation_cache_dir"] is not None
            STOP.request()
            changed = settings()
            assert all(changed[name] != before[name] for name in before), [name for name in before if changed[name] == before[name]]
        assert settings() == before
    finally:
        jax.config.update("jax_compilation_cache_dir", before_dir)


def test_a_warning_of_a_run_leaves_no_handler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    own = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.root, "handlers", [])
    with run_scope():
        logging.warning("said")
        logging.root.addHandler(own)
    assert logging.root.handlers == [own] and "said" in capsys.readouterr().err


def test_two_runs_in_a_row_and_one_in_a_thread_are_answered_alike(capsys: pytest.CaptureFixture[str]) -> None:
    before, codes = settings(), []
    for _ in range(2):
        codes.append(main(["--workdir=/nonexistent/run", "--config=/nonexistent.py"]))
        STOP.request()
        STOP.clear()
    thread = threading.Thread(target=lambda: codes.append(main(["--workdir=/nonexistent/run", "--config=/nonexistent.py"])))
    thread.start()
    thread.join()
    assert codes == [2, 2, 2] and settings() == before
    assert len(set(capsys.readouterr().err.splitlines())) == 1


def test_a_stop_request_does_not_outlive_its_run() -> None:
    with run_scope():
        STOP.install()
        os.kill(os.getpid(), signal.SIGTERM)
        assert STOP.requested
    assert not STOP.requested


def test_an_action_is_done_when_the_last_run_ends() -> None:
    done: list[str] = []
    at_end_of_run(lambda: done.append("never: there is no run"))
    with run_scope():
        with run_scope():
            at_end_of_run(lambda: done.append("once"))
        assert done == []
    assert done == ["once"]


class Broken(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error

    def isatty(self) -> bool:
        raise self.error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left"), OSError(5, "Input/output"), ValueError()]
)
def test_nobody_reads_the_log(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (Broken(error), None):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", stream)
        with run_scope():
            print("to nobody", flush=True)
            print("to nobody", file=sys.stderr, flush=True)
            logging.getLogger("jigclu").warning("to nobody")
            assert isinstance(sys.stderr, Lasting) and not sys.stderr.isatty()
        assert sys.stderr is stream
    monkeypatch.undo()


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)])
def test_no_file_takes_the_number_of_an_output_that_is_closed(closed: tuple[int, ...], tmp_path: Any) -> None:
    """What a library in C says goes nowhere, not into the run's first file."""
    code = f"""
from jigclu_jax.run_scope import fill_descriptors
fill_descriptors()
import os
file = open({str(tmp_path / "file")!r}, "w")
assert file.fileno() > 2
for number in {closed}[-1:]:
    os.write(number, b"from C")
file.write("mine")
"""
    closing = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    done = subprocess.run(["bash", "-c", f'exec "$0" -c "$1" {closing}', sys.executable, code], check=False)
    assert done.returncode == 0 and (tmp_path / "file").read_text() == "mine"


def test_what_a_signal_raises_is_not_lost_in_a_garbage_collection() -> None:
    """There Python would print it, and go on."""
    heard = []

    def handle(number: int, frame: Any) -> None:
        heard.append(is_lost(number, frame))

    class Collected:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        Collected()
        deadline = time.monotonic() + 20
        while len(heard) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [True, False]
