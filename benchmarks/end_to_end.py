"""Images a second of pretraining with its input, in each place that keeps up with an accelerator, beside the step alone.

    python benchmarks/end_to_end.py --arch resnet50 --size 224 --batch 256 --workers 14
    python benchmarks/end_to_end.py --arch resnet18 --stem small --size 64 --batch 512 --data /data/cifar10/train --places resident
    python benchmarks/end_to_end.py --small                    # a try on a CPU

`step` trains on one batch of montages that lies on the device; `device` reads, decodes and crops JPEG files (`--data`, or else synthetic
ones of 500 x 375 pixels made for the occasion); `resident` cuts montages from images in device memory. All by the program's own loop,
without checkpoints; rounds take turns, and medians are compared. Prints JSON rows: images/s, and as `ratio` the fraction of the step alone.
"""

import argparse
import dataclasses
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from no_checkpoints import NoCheckpoints
from PIL import Image
from rows import print_row

from jigclu_jax.config import pretrain_config
from jigclu_jax.data.sources.opening import Source, Subset, open_source
from jigclu_jax.methods import create_method
from jigclu_jax.train.loop import Input, Outputs, Start, fit
from jigclu_jax.train.progress import Progress
from jigclu_jax.train.run import Training, facts_of, prepare_training
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.step import Update, compile_step
from jigclu_jax.train.stop import StopRequest
from jigclu_jax.train.writers import create_writer

SMALL = ["--arch=resnet18", "--stem=small", "--width=0.125", "--size=32", "--batch=16", "--steps=8", "--rounds=1", "--dtype=float32"]


def synthetic_photos(folder: Path, count: int) -> None:
    """JPEG files of smooth colours and grain, about as large as a photograph's of that size."""
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
        grainy = np.clip(np.asarray(coarse, np.int16) + rng.normal(0, 8, (375, 500, 3)).astype(np.int16), 0, 255)
        Image.fromarray(grainy.astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)


def settings(arguments: argparse.Namespace, data: str, place: str) -> ConfigDict:
    """The paper's recipe with the sizes asked for."""
    config = pretrain_config()
    config.batch_size, config.log_every_steps = arguments.batch, 50
    config.model.update({name: getattr(arguments, name) for name in ("arch", "stem", "width", "dtype")})
    config.data.update({"path": data, "split": "", "min_side": 1, "image_size": arguments.size, "augment": place})
    if place == "device":
        config.data.workers = arguments.workers
    return config


def step_alone(training: Training, steps: int) -> Callable[[], float]:
    """Rate of the step on one batch that lies on the device."""
    update = Update(training.optimizer, create_schedule(training.config.optimizer, steps, 1), steps)
    step_fn = compile_step(training.method, update, training.mesh, target=training.target)
    batch = training.supply.first()

    def rate() -> float:
        state = training.initial_state()
        state, metrics = step_fn(state, batch)
        jax.block_until_ready(metrics)
        begun = time.perf_counter()
        for _ in range(steps):
            state, metrics = step_fn(state, batch)
        jax.block_until_ready(metrics)
        return steps * training.config.batch_size / (time.perf_counter() - begun)

    return rate


def with_input(training: Training) -> Callable[[], float]:
    """Rate of the program's loop, without its first call of the step."""

    def rate() -> float:
        plan = training.plan
        with tempfile.TemporaryDirectory() as folder:
            writer = create_writer(folder, tensorboard=False)
            progress = Progress(plan.total_steps, plan.steps_per_epoch, training.config.batch_size, stream=io.StringIO())
            trained = fit(
                Start(training.initial_state()),
                training.step_fn,
                Input(training.batches, training.mesh),
                plan,
                Outputs(NoCheckpoints(folder), writer, progress),
                StopRequest(),
            )
            writer.close()
        assert trained.images_per_second is not None
        return trained.images_per_second

    return rate


def rows_of(arguments: argparse.Namespace, data: str) -> dict[str, Callable[[], float]]:
    """What a round of each row does."""
    rows: dict[str, Callable[[], float]] = {}
    for place in arguments.places.split(","):
        config = settings(arguments, data, place)
        source: Source = open_source(config.data)
        if place == "device" or len(source) < arguments.batch:  # an epoch as long as a round
            source = Subset(source, np.arange(arguments.steps * arguments.batch) % len(source))
        training = prepare_training(config, create_method(config, facts_of(config, source)), source)
        training = dataclasses.replace(training, plan=dataclasses.replace(training.plan, total_steps=arguments.steps))
        if not rows:
            rows["step"] = step_alone(training, arguments.steps)
        rows[place] = with_input(training)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="a folder of images; none: synthetic JPEG files")
    parser.add_argument("--places", default="device,resident")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--stem", default="imagenet")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=224, help="side of a montage")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--workers", type=int, default=0, help="processes of `device`; 0: threads")
    parser.add_argument("--steps", type=int, default=100, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a few seconds on a CPU, to try the script")
    arguments = parser.parse_args([*SMALL, *sys.argv[1:]] if "--small" in sys.argv[1:] else None)
    with tempfile.TemporaryDirectory() as photos:
        if not arguments.data:
            synthetic_photos(Path(photos), 64 if arguments.small else 512)
        rows = rows_of(arguments, arguments.data or photos)
        found: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(arguments.rounds):
            for name, rate in rows.items():
                found[name].append(rate())
    what = f"{arguments.arch} {arguments.size} px batch {arguments.batch}"
    alone = statistics.median(found["step"])
    facts = {name: getattr(arguments, name) for name in ("dtype", "stem", "width", "workers", "steps")}
    facts["device"] = jax.devices()[0].device_kind
    for name, values in found.items():
        peer = {"peer": "step", "peer_value": round(alone, 1)} if name != "step" else {}
        rounds = [round(value, 1) for value in values]
        print_row(f"{name} {what}", round(statistics.median(values), 1), "images/s", **peer, rounds=rounds, **facts)


if __name__ == "__main__":
    main()
