"""JAX's distributed runtime starts when this process is one of several, and only then; two processes compute what one does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError
from jigclu_jax.train.writers import read_metrics

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"}
NAMES = (
    *ADDRESS,
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "TPU_WORKER_HOSTNAMES",
    "JIGCLU_DISTRIBUTED",
)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[object, ...], dict[str, object]]]:
    """The calls of `jax.distributed.initialize`, in an environment without any of the variables."""
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *positional, **named: calls.append((positional, named)))
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: bool(calls))
    return calls


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
        {"TPU_WORKER_HOSTNAMES": ""},
        {"JAX_COORDINATOR_ADDRESS": ""},
        {"SLURM_NTASKS": "many"},
    ],
)
def test_one_process_alone_starts_nothing(started: list[object], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    _set(monkeypatch, environment)
    assert distributed.start() is False
    assert started == []
    assert distributed.is_main()


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_NTASKS": "8"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"TPU_WORKER_HOSTNAMES": "host0,host1"},
        {"TPU_WORKER_HOSTNAMES": "a, b,c"},
        {"JIGCLU_DISTRIBUTED": "auto"},
    ],
)
def test_a_scheduler_with_several_processes_is_left_to_jax(
    started: list[object], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    _set(monkeypatch, environment)
    assert distributed.start() is True
    assert started == [((), {})]
    assert distributed.start() is True  # a job inside a job
    assert len(started) == 1


def test_addresses_given_by_hand_come_first(started: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {**ADDRESS, "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3", "SLURM_NTASKS": "8"})
    assert distributed.start() is True
    assert started == [(("10.0.0.1:1234",), {"num_processes": 4, "process_id": 3})]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "JAX_COORDINATOR_ADDRESS is set but JAX_NUM_PROCESSES and JAX_PROCESS_ID not: set all three, or none of them"),
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS is set but JAX_PROCESS_ID not: set all three, or none of them"),
        ({"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "environment variable JAX_NUM_PROCESSES='two' is not a whole number"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2 is not in 0..1 (JAX_NUM_PROCESSES=2)"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID=-1 is not in 0..1 (JAX_NUM_PROCESSES=2)"),
    ],
)
def test_a_mistake_in_the_environment_is_one_line(
    started: list[object], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    _set(monkeypatch, {**ADDRESS, **environment})
    with pytest.raises(UserError) as raised:
        distributed.start()
    assert str(raised.value) == expected
    assert started == []


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["host", "resident"])
def test_two_processes_train_as_one_does(tmp_path: Path, augment: str) -> None:
    """2 processes of 2 devices against 1 process of 1 device: the same batches, losses within 1e-4, files written once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    group = [
        _start(
            tmp_path / "two",
            augment,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
            JAX_NUM_CPU_DEVICES="2",
        )
        for index in range(2)
    ]
    said = [_finish(process) for process in group]
    assert [code for code, _ in said] == [0, 0], said
    code, text = _finish(_start(tmp_path / "one", augment, JAX_NUM_CPU_DEVICES="1"))
    assert code == 0, text
    two, one = read_metrics(tmp_path / "two"), read_metrics(tmp_path / "one")
    assert [row["step"] for row in two] == [row["step"] for row in one] == [1, 2, 3, 4]
    for name in ("loss", "loss_cluster", "loss_location", "gradient_norm"):
        np.testing.assert_allclose([row[name] for row in two], [row[name] for row in one], rtol=1e-4, err_msg=name)
    assert len({row["loss"] for row in one}) == 4
    kept = [{path.name for path in (tmp_path / name).iterdir()} for name in ("two", "one")]
    assert kept[0] == kept[1] >= {"config.json", "metrics.jsonl", "result.json", "report.html", "checkpoints"}
    assert "step 4/4" in said[0][1] and "step 4/4" not in said[1][1], "one process speaks"


def _start(workdir: Path, augment: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jigclu_jax", f"--workdir={workdir}"]
    command += [f"--config={ROOT}/configs/pretrain_folder.py:stem=small,width=0.05,image_size=32,batch_size=16,epochs=1"]
    command += ["--config.data.source=embedded", "--config.data.split=train", "--config.data.limit=64", "--config.data.shuffle_group=8"]
    command += ["--config.log.tensorboard=0", "--config.log_every_steps=1", f"--config.data.augment={augment}"]
    command += [f"--config.log.pictures={augment == 'host'}"]  # pictures of resident data need all processes: one alone makes none
    command += ["--config.optimizer.learning_rate=0.002"]  # the paper's, for this batch: at 0.03 later steps are chaotic in float32
    env = {name: value for name, value in os.environ.items() if name not in NAMES} | environment
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=ROOT)


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        text, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
    return process.returncode, text
