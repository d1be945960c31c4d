"""Starting JAX's distributed runtime when, and only when, this process is one of several."""

import os

import jax

from jigclu_jax.errors import UserError

# One of these tells that a scheduler started several processes, and with what count.
_PROCESS_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


def _tpu_workers() -> int:
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return len([host for host in hosts.split(",") if host.strip()])


def _number(name: str) -> int:
    value = os.environ[name]
    try:
        return int(value)
    except ValueError:
        raise UserError(f"environment variable {name}={value!r} is not a whole number") from None


def start() -> bool:
    """Call `jax.distributed.initialize` if this process belongs to a group; returns whether it did.

    Addresses given by hand come first (JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID), then
    JIGCLU_DISTRIBUTED=auto, which a launcher sets, then a TPU pod, Slurm or Open MPI with more than one process, which JAX
    recognises itself. One process alone starts nothing.

    Raises:
      UserError: the address is given without the number of processes or this process's number, or they are not numbers.
    """
    if jax.distributed.is_initialized():
        return True
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if address:
        missing = [name for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if name not in os.environ]
        if missing:
            raise UserError(f"JAX_COORDINATOR_ADDRESS is set but {' and '.join(missing)} not: set all three, or none of them")
        count, index = _number("JAX_NUM_PROCESSES"), _number("JAX_PROCESS_ID")
        if not 0 <= index < count:
            raise UserError(f"JAX_PROCESS_ID={index} is not in 0..{count - 1} (JAX_NUM_PROCESSES={count})")
        jax.distributed.initialize(address, num_processes=count, process_id=index)
        return True
    if os.environ.get("JIGCLU_DISTRIBUTED", "") == "auto":
        # launch/tpu_vm.sh starts one process on every worker of a pod; a shell on a TPU VM shows no variable that says so
        jax.distributed.initialize()
        return True
    by_scheduler = any(os.environ.get(name, "1").isdigit() and int(os.environ.get(name, "1")) > 1 for name in _PROCESS_COUNTS)
    if by_scheduler or _tpu_workers() > 1:
        jax.distributed.initialize()
        return True
    return False


def is_main() -> bool:
    """Whether this process writes the files of a run (process 0)."""
    return jax.process_index() == 0
