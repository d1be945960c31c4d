"""Signals to a command that is starting, compiling, or answering another one: a line, the documented code, no traceback."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs.test_signals import start

from jigclu_jax.train.writers import read_metrics

# the package's first line, then a pause where the imports are; in pieces, as Python answers a signal between calls, and one that comes just
# before a sleep after it
SLOW_START = """
import sys, time
sys.orig_argv = ["python", *sys.argv[1:]]
sys.argv = sys.argv[1:2]
import jigclu_jax
print(flush=True)
for _ in range(600):
    time.sleep(0.1)
"""


def ended(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, list[str]]:
    _, errors = process.communicate(timeout=seconds)
    assert "Traceback" not in errors, errors
    return process.returncode, errors.splitlines()


@pytest.mark.parametrize("command", [("-m", "jigclu_jax"), ("/usr/bin/jigclu",)])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_while_modules_are_imported(number: signal.Signals, code: int, command: tuple[str, ...]) -> None:
    line = [sys.executable, "-c", SLOW_START, *command]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    begun = time.monotonic()
    process.send_signal(number)
    found, lines = ended(process)
    assert (found, len(lines)) == (code, 1) and time.monotonic() - begun < 30


def test_whoever_imports_the_package_keeps_his_signals() -> None:
    code = "import signal, jigclu_jax; print("
    code += "signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True default_int_handler\n"


def wait_for_line(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return
    raise AssertionError(f"no line {beginning!r}")


@pytest.mark.slow
def test_sigterm_while_the_step_is_compiled_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # so that it takes its time
    process = start(tmp_path / "run", 2)
    wait_for_line(process, "compiling the step")
    time.sleep(1)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, lines = ended(process)
    assert code == 75 and time.monotonic() - begun < 20 and "nothing was to be saved" in lines[-1]
    assert read_metrics(tmp_path / "run") == []
