"""Starts JAX's distributed runtime when, and only when, this process is one of several."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax

from jigclu_jax.device import peers
from jigclu_jax.errors import PeerError, UserError, one_line

HEARTBEAT, START = "JIGCLU_HEARTBEAT_SECONDS", "JIGCLU_START_SECONDS"
_DEFAULTS = {HEARTBEAT: 60, START: 300}
# JAX's own limits, which abort with a page of C++, come after ours
_LATER = 60
_SAY_AFTER = 15.0
# What `jax._src.clusters` asks for before it recognises the scheduler, beside the number of processes.
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
_OPEN_MPI = "OMPI_MCA_orte_hnp_uri"


def _workers() -> int:
    """Workers of a TPU pod as GKE tells them, all slices together; a plain TPU VM tells only its metadata server."""
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return len([host for host in hosts.split(",") if host.strip()]) * (_optional("MEGASCALE_NUM_SLICES") or 1)


def _number(name: str) -> int:
    value = os.environ[name]
    try:
        return int(value)
    except ValueError:
        raise UserError(f"environment variable {name}={value!r} is not a whole number") from None


def _optional(name: str) -> int | None:
    """A number that somebody else's launcher sets; None where it is missing or is no number."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else None


def _seconds(name: str) -> int:
    seconds = _number(name) if os.environ.get(name) else _DEFAULTS[name]
    if seconds < 5:
        raise UserError(f"environment variable {name}={seconds} must be at least 5 seconds")
    return seconds


def _by_address(address: str) -> dict[str, Any]:
    """The call for an address given by hand; Slurm and Open MPI tell the two numbers themselves."""
    given: dict[str, int] = {}
    for name, slurm, open_mpi in (
        ("JAX_NUM_PROCESSES", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"),
        ("JAX_PROCESS_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"),
    ):
        found = _number(name) if name in os.environ else next((n for n in map(_optional, (open_mpi, slurm)) if n is not None), None)
        if found is not None:
            given[name] = found
    missing = [name for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if name not in given]
    if missing:
        raise UserError(f"JAX_COORDINATOR_ADDRESS is set but {' and '.join(missing)} not: set all three, or none of them")
    count, index = given["JAX_NUM_PROCESSES"], given["JAX_PROCESS_ID"]
    if not 0 <= index < count:
        raise UserError(f"JAX_PROCESS_ID={index} is not in 0..{count - 1} (JAX_NUM_PROCESSES={count})")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"JAX_COORDINATOR_ADDRESS={address!r} is no address: give HOST:PORT of process 0")
    call: dict[str, Any] = {"coordinator_address": address, "num_processes": count, "process_id": index}
    local = _optional("OMPI_COMM_WORLD_LOCAL_RANK")
    if local is not None and "JAX_LOCAL_DEVICE_IDS" not in os.environ:
        call["local_device_ids"] = [local]  # a GPU each, as JAX does it where it recognises the scheduler
    return call


def _call() -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is to be told; None for a process that is alone."""
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if address:
        return _by_address(address)
    if os.environ.get("JIGCLU_DISTRIBUTED", "") == "auto":
        # launch/tpu_vm.sh starts one process on every worker of a pod; a shell on a TPU VM shows no variable that says so
        return {}
    # Open MPI first: it may have been started inside a Slurm allocation, whose variables then are those of its own daemons
    if (_optional("OMPI_COMM_WORLD_SIZE") or 1) > 1:
        if _OPEN_MPI not in os.environ:  # from version 5 on
            raise UserError(
                "this Open MPI does not tell where process 0 is: add `-x JAX_COORDINATOR_ADDRESS=HOST:PORT` (the first host, a free port) "
                "to mpirun"
            )
        return {"cluster_detection_method": "ompi"}
    if (_optional("SLURM_NTASKS") or 1) > 1:
        missing = [name for name in _SLURM if name not in os.environ]
        if missing:
            raise UserError(
                f"SLURM_NTASKS={os.environ['SLURM_NTASKS']} but {' and '.join(missing)} not set: start the tasks with "
                "`srun python -m jigclu_jax ...`, or unset SLURM_NTASKS to run one process alone"
            )
        return {"cluster_detection_method": "slurm"}
    return {} if _workers() > 1 else None


def start() -> bool:
    """Call `jax.distributed.initialize` if this process belongs to a group; returns whether it did.

    Addresses given by hand come first (JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID, which Slurm and Open MPI
    replace), then JIGCLU_DISTRIBUTED=auto, which a launcher sets, then Open MPI, Slurm or a TPU pod with more than one process, which
    JAX recognises itself. One process alone starts nothing. From then on the processes watch each other (`device/peers.py`): one that
    gives no sign of life for JIGCLU_HEARTBEAT_SECONDS (60) ends the others.

    Raises:
      UserError: the environment tells only a part of what is needed, or no numbers; JAX finds no device.
      PeerError: the group did not come together; where it is not complete within JIGCLU_START_SECONDS (300), the process ends.
    """
    if jax.distributed.is_initialized():
        return True
    call = _call()
    if call is None:
        check_devices()
        return False
    heartbeat, limit = _seconds(HEARTBEAT), _seconds(START)
    address = call.get("coordinator_address")
    where = f" at {address} (process {call['process_id']} of {call['num_processes']})" if address else ""
    timers = [
        _after(_SAY_AFTER, lambda: _say(f"waiting for the other processes{where}")),
        _after(limit, lambda: _give_up(f"the processes of this run did not come together within {limit} seconds{where}")),
    ]
    try:
        jax.distributed.initialize(**call, initialization_timeout=limit + _LATER, heartbeat_timeout_seconds=heartbeat + _LATER)
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"the processes of this run cannot come together{where}: {one_line(error)}") from error
    finally:
        for timer in timers:
            timer.cancel()
    peers.join(heartbeat)
    check_devices()
    return True


def is_alone() -> bool:
    """Whether this process belongs to no group; UserError as `start`."""
    return not jax.distributed.is_initialized() and _call() is None


def check_devices() -> None:
    """Let JAX find its devices.

    Raises:
      UserError: the platform that was asked for is not there or has no such name, or its driver does not do.
    """
    try:
        jax.devices()
    except Exception as error:  # RuntimeError, AssertionError or what a plugin raises
        asked = os.environ.get("JAX_PLATFORMS", "")
        what = f"JAX cannot start with JAX_PLATFORMS={asked}" if asked else "JAX cannot start"
        reason = one_line(error) if str(error) else "no such device"  # JAX asserts that there is one
        raise UserError(f"{what}: {reason}: give a platform that this machine has (cpu, cuda, tpu), or mend its driver") from error


def _after(seconds: float, action: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _give_up(text: str) -> None:
    _say(f"failed: {text}")
    os._exit(peers.FAILED)  # the main thread waits inside the runtime


def is_main() -> bool:
    """Whether this process writes the files of a run (process 0)."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0  # one process alone needs no device for that


def several() -> bool:
    """Whether JAX's distributed runtime, and with it its preemption service, is on."""
    return jax.distributed.is_initialized()
