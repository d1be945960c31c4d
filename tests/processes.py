"""Real processes of one run on this machine's CPU: started as a person would start them by hand, with addresses in the environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from parts import python_path
from resume_kills import pictures

ROOT = Path(__file__).resolve().parent.parent
# whatever a scheduler or a shell may have set
NAMES = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "JIGCLU_DISTRIBUTED",
    "JIGCLU_HEARTBEAT_SECONDS",
    "JIGCLU_START_SECONDS",
    "MEGASCALE_NUM_SLICES",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_MCA_orte_hnp_uri",
    "SLURM_JOB_ID",
    "SLURM_LOCALID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_STEP_NODELIST",
    "TPU_PROCESS_ADDRESSES",
    "TPU_WORKER_HOSTNAMES",
)
Process = subprocess.Popen[str]


def free_address() -> str:
    """A local address with a port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(arguments: Sequence[str], **environment: str) -> Process:
    """`python ARGUMENTS...` on the CPU, whatever else there is, both outputs in one pipe."""
    env = {name: value for name, value in os.environ.items() if name not in NAMES} | {"JAX_PLATFORMS": "cpu"}
    env |= {"PYTHONPATH": python_path(ROOT, ROOT / "tests"), **environment}
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=ROOT)


def start_group(arguments: Sequence[Sequence[str]], devices: int = 1, **environment: str) -> list[Process]:
    """One process for each list of arguments, `devices` of the CPU's in each."""
    address, count = free_address(), str(len(arguments))
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": count, "JAX_NUM_CPU_DEVICES": str(devices), **environment}
    return [start(one, **shared, JAX_PROCESS_ID=str(index)) for index, one in enumerate(arguments)]


def finish(processes: Sequence[Process], timeout: float = 240) -> list[tuple[int, str]]:
    """(exit code, what it said) of each; all are killed once the time is over."""
    deadline, ended = time.monotonic() + timeout, []
    for process in processes:
        try:
            text, _ = process.communicate(timeout=max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
        ended.append((process.returncode, text))
    return ended


def command(workdir: Path, *fields: str, **more: object) -> list[str]:
    """A pretraining run of 4 steps on 64 pictures: arguments of python."""
    values: Mapping[str, object] = {
        "data.source": "arrays",
        "data.path": str(pictures(workdir.with_name("pictures.npz"))),
        "method.shuffle_group": 4,
        "data.augment": "resident",
        "log.tensorboard": False,
        "log.pictures": False,
        "log_every_steps": 1,
        "augment.jitter_probability": 0.0,  # colours take XLA as long as a network
        "augment.grayscale_probability": 0.0,
        "augment.blur_probability": 0.0,
        "optimizer.learning_rate": 0.002,  # the paper's, for this batch: at 0.03 later steps are chaotic in float32
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    config = f"--config={ROOT}/configs/pretrain_folder.py:arch=resnet10,stem=small,width=0.05,image_size=32,batch_size=16,epochs=1"
    return ["-m", "jigclu_jax", f"--workdir={workdir}", config, *(f"--config.{name}={value}" for name, value in values.items()), *fields]


def wait_for_rows(workdir: Path, count: int, processes: Sequence[Process], timeout: float = 240) -> None:
    """Return once metrics.jsonl has that many rows."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        path = workdir / "metrics.jsonl"
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return
        for process in processes:
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.05)
    raise AssertionError("the run wrote no rows")
