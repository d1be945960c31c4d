"""What our loop costs beside the bare jitted step, and how long a run takes to its first step, cold and with a warm compilation cache.

    JAX_PLATFORMS=cpu python benchmarks/loop_overhead.py

The loop is `train/loop.py: fit` with its metrics, progress line, idle meter and writer (checkpoints are in neither); the bare loop
calls the same compiled step on the same batches and waits for the last one. Runs alternate; medians are compared. Start-up is that of
`python -m jigclu_jax` from the start of the process to the row of its first step, with an empty compilation cache, then again from its
checkpoint. Prints JSON rows: the step and both loops in milliseconds, the overhead in per cent, start-up in seconds.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from no_checkpoints import NoCheckpoints
from noise import noise_batch
from rows import print_row

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.train.loop import Input, Outputs, Start, fit
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.plan import Plan
from jigclu_jax.train.progress import Progress
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step
from jigclu_jax.train.stop import StopRequest
from jigclu_jax.train.writers import create_writer

ROOT = Path(__file__).resolve().parent.parent
SIDE, LOG_EVERY = 32, 50


def measure_loop(batch_size: int, width: float, steps: int, repeats: int) -> None:
    """Rows of the step, the bare loop and ours."""
    config = pretrain_config()
    config.model.update({"arch": "resnet18", "stem": "small", "width": width})
    config.data.image_size = SIDE
    facts = DataFacts(8 * batch_size, None, batch_size, 8)
    mesh = create_mesh()
    method, optimizer = create_method(config, facts), create_optimizer(config.optimizer)
    step_fn = compile_step(method, Update(optimizer, create_schedule(config.optimizer, steps, 1), steps), mesh)
    target = abstract_state(method, facts, optimizer, mesh)
    host = [noise_batch(method, facts, step) for step in range(8)]
    plan = Plan(total_steps=steps, steps_per_epoch=steps, log_every=LOG_EVERY, save_every=steps)

    def bare() -> float:
        state = create_state(method, facts, optimizer, 0, target)
        for number in range(steps):
            state, metrics = step_fn(state, to_device(host[number % len(host)], mesh))
            if number == 0:
                jax.block_until_ready(metrics)
                begun = time.perf_counter()
        jax.block_until_ready(state)
        return (time.perf_counter() - begun) / (steps - 1)

    def ours(folder: str) -> float:
        begun: list[float] = []

        def stream(first: int, end: int, _: object) -> Iterator[dict[str, Any]]:
            return (host[number % len(host)] for number in range(first, end))

        class Clocked(Progress):
            def update(self, step: int, metrics: object) -> float:
                begun.append(time.perf_counter())  # the first call follows the first step
                return super().update(step, metrics)  # type: ignore[arg-type]

        writer = create_writer(folder, tensorboard=False)
        trained = fit(
            Start(create_state(method, facts, optimizer, 0, target)),
            step_fn,
            Input(stream, mesh),
            plan,
            Outputs(NoCheckpoints(folder), writer, Clocked(steps, steps, batch_size, stream=io.StringIO())),
            StopRequest(),
        )
        jax.block_until_ready(trained.state)
        seconds = (time.perf_counter() - begun[0]) / (steps - 1)
        writer.close()
        return seconds

    bare()  # compiles
    found: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(repeats):
        found["bare"].append(bare())
        with tempfile.TemporaryDirectory() as folder:
            found["ours"].append(ours(folder))
    bare_ms, ours_ms = (1000 * statistics.median(found[name]) for name in ("bare", "ours"))
    spread = {name: [round(1000 * value, 3) for value in sorted(values)] for name, values in found.items()}
    print_row("loop, a step", round(ours_ms, 3), "ms", peer="bare jitted step", peer_value=round(bare_ms, 3), runs=spread, steps=steps)
    ratios = [mine / plain for mine, plain in zip(found["ours"], found["bare"], strict=True)]
    overhead, of_medians = (round(100 * (ratio - 1), 2) for ratio in (statistics.median(ratios), ours_ms / bare_ms))
    print_row("overhead of the loop", overhead, "%", of_medians=of_medians)


def measure_start(repeats: int) -> None:
    """Rows of the time to the first step: nothing compiled before, and again from a checkpoint with what was compiled then."""
    cold, warm = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            cache, workdir = Path(folder) / "cache", Path(folder) / "run"
            cold.append(first_step(workdir, cache, 4))
            warm.append(first_step(workdir, cache, 8))
    print_row("start to first step, nothing compiled", round(statistics.median(cold), 2), "s", runs=[round(value, 2) for value in cold])
    print_row(
        "restart to first step, warm compilation cache",
        round(statistics.median(warm), 2),
        "s",
        peer="nothing compiled",
        peer_value=round(statistics.median(cold), 2),
        runs=[round(value, 2) for value in warm],
    )


def first_step(workdir: Path, cache: Path, stop_at: int) -> float:
    """Seconds from the start of the process to the row of its first step; the process is stopped by SIGTERM, which saves."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    fields = ("data.source=embedded", "data.split=train", "data.augment=device", "log.tensorboard=False", "log.pictures=False")
    command = [sys.executable, "-m", "jigclu_jax", f"--workdir={workdir}", "--config.log_every_steps=1", *(f"--config.{f}" for f in fields)]
    command.append(f"--config={ROOT}/configs/pretrain_folder.py:stem=small,width=0.25,image_size=32,batch_size=64,epochs=100")
    before = newest_row(workdir)
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    seconds = 0.0
    while (row := newest_row(workdir)) < before + stop_at:
        if row > before and not seconds:
            seconds = time.perf_counter() - begun
        if process.poll() is not None:
            raise RuntimeError(f"the run ended by itself: {process.stderr.read() if process.stderr else ''}")
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=600)
    if process.returncode != 75:
        raise RuntimeError(f"exit code {process.returncode}: {said}")
    return seconds


def newest_row(workdir: Path) -> int:
    """Step of the last row on disk, 0 without one."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=float, default=0.125, help="of the ResNet-18; the defaults make a step of about 30 ms on 2 cores")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="one short run of each")
    arguments = parser.parse_args()
    steps, repeats = (30, 1) if arguments.small else (arguments.steps, arguments.repeats)
    measure_loop(arguments.batch, arguments.width, steps, repeats)
    measure_start(1 if arguments.small else min(repeats, 3))


if __name__ == "__main__":
    main()
