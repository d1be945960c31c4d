"""Real processes and real signals: SIGTERM saves and leaves with 75; SIGKILL has methods/test_contract.py and test_kills.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jigclu_jax.train.writers import read_metrics

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "pretrain_cifar10.py"
FIELDS = ("data.source=embedded", "data.limit=96", "data.image_size=32", "log_every_steps=1", "log.tensorboard=False", "log.pictures=False")


def start(workdir: Path, epochs: int, config: bool = True) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jigclu_jax", f"--workdir={workdir}"]
    if config:
        command.append(f"--config={CONFIG}:width=0.05,batch_size=16,epochs={epochs}")
        command += [f"--config.{field}" for field in FIELDS]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ)


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


def test_sigterm_saves_and_workdir_alone_goes_on(tmp_path: Path) -> None:
    workdir = tmp_path / "run"
    process = start(workdir, 200)
    wait_for_row(workdir, 8, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors and "saved" in errors.splitlines()[-2]
    stopped = read_metrics(workdir)[-1]["step"]
    assert not (workdir / "result.json").exists()
    again = start(workdir, 200, config=False)
    wait_for_row(workdir, stopped + 2, again)
    again.send_signal(signal.SIGTERM)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 75, errors
    assert f"going on from step {stopped} of 1200" in errors
    steps = [row["step"] for row in read_metrics(workdir)]
    assert steps == list(range(1, len(steps) + 1)) and steps[-1] > stopped
