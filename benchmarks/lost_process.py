"""What one process of two does when the other is killed, stopped, or leaves with an error, while both add up arrays on the CPU.

    python benchmarks/lost_process.py [--watch none|jax|ours]

`none` is `jax.distributed` alone, `jax` adds `jax_enable_recoverability`, `ours` is `device/distributed.py` with `device/peers.py`.
The time after which a silent process counts as lost is 10 seconds everywhere. A row is the survivor's exit code (`value`; -6 is an
abort, -9 that it still hung after 60 seconds), the seconds until it ended and the lines that it wrote to stderr.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from rows import print_row

EVENTS = ("1 is killed", "0 is killed", "1 is stopped", "0 is stopped", "1 leaves", "0 leaves")


def work(index: int, watch: str, leaves: bool) -> None:
    """One process: joins the other, adds up arrays until something happens."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from jigclu_jax import __main__, jobs
    from jigclu_jax.device import distributed
    from jigclu_jax.errors import UserError

    def job() -> None:
        if watch == "ours":
            distributed.start()
        else:
            jax.config.update("jax_enable_recoverability", watch == "jax")
            address = os.environ["JAX_COORDINATOR_ADDRESS"]
            jax.distributed.initialize(address, 2, index, heartbeat_timeout_seconds=10, shutdown_timeout_seconds=10)
        mesh = Mesh(np.array(jax.devices()), ("data",))
        ones = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("data")), np.ones((1, 4)))
        add = jax.jit(lambda array: array.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))
        for step in range(10_000):
            float(add(ones))
            if step == 0:
                print("ready", flush=True)
            if leaves and step == 40:
                raise UserError("image.jpg: damaged")
            time.sleep(0.05)

    if watch != "ours":
        return job()
    __main__.parse = lambda _: (SimpleNamespace(job=""), "")  # the program as it is, but for its job
    jobs.find_job = lambda _: SimpleNamespace(run=lambda *_: job())
    sys.exit(__main__.main([]))


def observe(watch: str, event: str, port: int) -> None:
    """Start both, let `event` happen, print a row for each process that is left."""
    lost, what = int(event[0]), event.split()[-1]
    shared = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    shared |= {"JIGCLU_HEARTBEAT_SECONDS": "10", "TF_CPP_MIN_LOG_LEVEL": "3"}
    pair = []
    for index in range(2):
        command = [sys.executable, __file__, "--watch", watch, "--index", str(index)]
        command += ["--leaves"] if what == "leaves" and index == lost else []
        environment = shared | {"JAX_PROCESS_ID": str(index)}
        pair.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    assert pair[0].stdout is not None
    if "ready\n" not in iter(pair[0].stdout.readline, ""):
        raise RuntimeError(pair[0].communicate()[1])
    begun = time.monotonic()
    if what != "leaves":
        pair[lost].send_signal(signal.SIGKILL if what == "killed" else signal.SIGSTOP)
    try:
        _, said = pair[1 - lost].communicate(timeout=60)
    except subprocess.TimeoutExpired:
        pair[1 - lost].kill()
        _, said = pair[1 - lost].communicate()
    seconds = round(time.monotonic() - begun, 1)
    print_row(f"{watch}: {event}", pair[1 - lost].returncode, "exit code", seconds=seconds, stderr_lines=len(said.splitlines()))
    pair[lost].kill()
    pair[lost].communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watch", choices=["none", "jax", "ours"], help="all three where it is missing")
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--leaves", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.index is not None:
        return work(arguments.index, arguments.watch, arguments.leaves)
    for number, watch in enumerate([arguments.watch] if arguments.watch else ["none", "jax", "ours"]):
        for event in EVENTS:
            observe(watch, event, 20_000 + os.getpid() % 5000 + 10 * number + EVENTS.index(event))


if __name__ == "__main__":
    main()
