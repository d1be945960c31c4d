"""Where a training step's time goes on one accelerator: every kernel by its time, from JAX's profiler, beside the step's own time.

    python benchmarks/kernel_table.py --arch resnet50 --batch 256 --out runs/kernels
    python benchmarks/kernel_table.py --small --out runs/kernels        # a try on a CPU

Writes `kernels.csv` (kernel, milliseconds and launches a step) and `program.hlo.txt.gz` (what was compiled) into --out. Prints rows:
the step, how long the device was busy in it, and the time by sort of kernel.
"""

import argparse
import collections
import csv
import gzip
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from noise import noise_batch
from rows import print_row

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step

SMALL = ["--arch=resnet18", "--size=32", "--batch=8", "--steps=1", "--dtype=float32"]
# the first that is found in a kernel's name
SORTS = {
    "convolutions": r"fprop|wgrad|dgrad|conv|winograd|implicit",
    "matrix products": r"gemm|dot|nvjet|cublas|cutlass",
    "max-pool": r"reduce_window|scatter",
    "reductions": r"reduce",
    "elementwise": r"fusion|loop|convert|select",
}

Kernels = dict[str, tuple[float, float]]  # name -> milliseconds, launches; of a step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--stem", default="imagenet")
    parser.add_argument("--size", type=int, default=224, help="side of a montage")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--steps", type=int, default=5, help="that are traced")
    parser.add_argument("--out", default="runs/kernels")
    parser.add_argument("--small", action="store_true", help="a few seconds on a CPU, to try the script")
    arguments = parser.parse_args([*SMALL, *sys.argv[1:]] if "--small" in sys.argv[1:] else None)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    config = pretrain_config()
    config.batch_size, config.data.image_size = arguments.batch, arguments.size
    config.model.update({name: getattr(arguments, name) for name in ("arch", "stem", "dtype")})
    mesh, facts = create_mesh(jax.devices()[:1]), DataFacts(arguments.batch, None, arguments.batch, 1)
    method, optimizer = create_method(config, facts), create_optimizer(config.optimizer)
    target = abstract_state(method, facts, optimizer, mesh)
    step: Any = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 1000, 1), 1000), mesh)
    batch, state = to_device(noise_batch(method, facts), mesh), create_state(method, facts, optimizer, 0, target)
    begun = time.perf_counter()
    compiled = step.lower(target, batch).compile()
    compilation = time.perf_counter() - begun
    with gzip.open(out / "program.hlo.txt.gz", "wt") as file:
        file.write(compiled.as_text())

    def block(count: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        for _ in range(count):
            state, metrics = compiled(state, batch)
        jax.block_until_ready(metrics)
        return 1000 * (time.perf_counter() - begun) / count

    block(2)
    taken = statistics.median(block(arguments.steps) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            block(arguments.steps)
        kernels = kernels_of(folder, arguments.steps)
    with (out / "kernels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["kernel", "ms_per_step", "launches_per_step"])
        table.writerows([name, round(ms, 4), launches] for name, (ms, launches) in kernels.items())
    what = f"{arguments.arch} {arguments.size} px batch {arguments.batch}"
    facts_of_row = {"device": jax.devices()[0].device_kind, "dtype": arguments.dtype}
    print_row(f"kernels {what}: step", round(taken, 3), "ms", seconds_to_compile=round(compilation, 1), **facts_of_row)
    print_row(f"kernels {what}: busy", round(sum(ms for ms, _ in kernels.values()), 3), "ms", **facts_of_row)
    for sort, (ms, launches) in by_sort(kernels).items():
        print_row(f"kernels {what}: {sort}", round(ms, 3), "ms", launches=launches, **facts_of_row)


def kernels_of(folder: str, steps: int) -> Kernels:
    """What the devices ran in a trace of `steps` steps, the longest first."""
    newest = max(Path(folder).glob("**/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    times, launches = collections.Counter[str](), collections.Counter[str]()
    on_cpu = jax.default_backend() == "cpu"
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        for line in plane.lines if ("CPU" if on_cpu else "GPU") in plane.name else ():
            for event in line.events if on_cpu or str(line.name).startswith("Stream") else ():
                if "hlo_op" in dict(event.stats or ()):
                    times[event.name] += event.duration_ns
                    launches[event.name] += 1
    return {name: (ns / 1e6 / steps, launches[name] / steps) for name, ns in times.most_common()}


def by_sort(kernels: Kernels) -> dict[str, tuple[float, float]]:
    """The same by what kernels' names say of them."""
    found: dict[str, tuple[float, float]] = {}
    for name, (ms, launches) in kernels.items():
        sort = next((sort for sort, pattern in SORTS.items() if re.search(pattern, name, re.IGNORECASE)), "anything else")
        before = found.get(sort, (0.0, 0.0))
        found[sort] = before[0] + ms, before[1] + launches
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


if __name__ == "__main__":
    main()
