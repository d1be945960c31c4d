"""Real processes and signals: SIGTERM saves and leaves with 75, Ctrl-C twice ends; SIGKILL: methods/test_contract.py, test_kills.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest

from jigclu_jax.train.writers import read_metrics

pytestmark = pytest.mark.slow


def start(workdir: Path, epochs: int = 0, **more: object) -> subprocess.Popen[str]:
    """A run of 4 steps an epoch; without epochs the workdir alone is given."""
    fields = processes.command(workdir, epochs=epochs, **more) if epochs else ["-m", "jigclu_jax", f"--workdir={workdir}"]
    return subprocess.Popen([sys.executable, *fields], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ)


def wait_for_row(workdir: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if (workdir / "metrics.jsonl").exists():
            rows = (workdir / "metrics.jsonl").read_text().splitlines()
            if len(rows) >= step:
                return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError("the run wrote no rows")


def test_sigterm_saves_the_workdir_alone_goes_on_and_ctrl_c_twice_ends_at_once(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    process = start(workdir, 25, data__augment="host", saving__every_epochs=5)
    wait_for_row(workdir, 2, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors and "saved" in errors.splitlines()[-2]
    stopped = read_metrics(workdir)[-1]["step"]
    assert not (workdir / "result.json").exists()
    again = start(workdir)
    wait_for_row(workdir, stopped + 2, again)
    again.send_signal(signal.SIGINT)
    again.send_signal(signal.SIGINT)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 130 and "Traceback" not in errors, errors
    assert f"going on from step {stopped} of 100" in errors
    last = start(workdir)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert [row["step"] for row in read_metrics(workdir)] == list(range(1, 101))
