"""Time of a training step of JigClu beside SimCLR's, for one image at the same side; and beside another JAX library's SimCLR.

    python benchmarks/method_steps.py --arch resnet18 --size 224 --batch 4
    python benchmarks/method_steps.py --arch resnet18 --stem small --size 32 --batch 16
    python benchmarks/method_steps.py --arch resnet18 --size 224 --batch 4 --peer     # needs stable-pretraining with its JAX backend

A montage of JigClu is as large as a crop of SimCLR, so that an image costs it one picture where SimCLR has two. All steps stand compiled in
one process, on pictures that lie on the device, and are timed in turn: a round is some steps of each, and what counts is the ratio within a
round, median over the rounds, so that whatever else the machine does falls on all of them alike. Aims: JigClu at most 0.55 of SimCLR; with
`--peer`, the peer's step of SimCLR at least 1.3 times as long as ours. The peer gets pictures as float numbers, ours as bytes.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
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

Steps = Callable[[int], None]  # takes so many steps and waits for the last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--stem", default="imagenet")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=224, help="side of a montage and of a crop")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--steps", type=int, default=1, help="of each in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--methods", default="jigclu,simclr", help="the first against the second")
    parser.add_argument("--peer", action="store_true", help="stable-pretraining's SimCLR beside the second")
    arguments = parser.parse_args()
    names = arguments.methods.split(",")
    steps = {name: method_steps(name, arguments) for name in names}
    if arguments.peer:
        from peer_simclr import peer_steps

        small = arguments.stem == "small"
        steps["stable-pretraining"] = peer_steps(arguments.arch, arguments.batch, arguments.size, arguments.dtype, small=small)
    for take in steps.values():
        take(2)  # compilation, and the first step after it
    rounds = [{name: _seconds(take, arguments.steps) for name, take in steps.items()} for _ in range(arguments.rounds)]
    what = f"{arguments.arch} {arguments.stem} {arguments.size} px batch {arguments.batch} {arguments.dtype}"
    device = jax.devices()[0]
    facts = {"device": f"{device.platform} {device.device_kind}", "machine": platform.machine(), "jax": jax.__version__}
    for name in steps:
        rate = arguments.batch / statistics.median(taken[name] for taken in rounds)
        print_row(f"{name} {what}", round(rate, 3), "images/s", **facts)
    _ratio(f"{names[0]} of {names[1]}, {what}", [taken[names[0]] / taken[names[1]] for taken in rounds], "at most 0.55")
    if arguments.peer:
        _ratio(
            f"stable-pretraining of {names[1]}, {what}", [taken["stable-pretraining"] / taken[names[1]] for taken in rounds], "at least 1.3"
        )


def method_steps(name: str, arguments: argparse.Namespace) -> Steps:
    """Steps of a method on one batch of noise that lies on the device."""
    config = pretrain_config(name)
    config.batch_size, config.data.image_size = arguments.batch, arguments.size
    config.model.update({field: getattr(arguments, field) for field in ("arch", "stem", "width", "dtype")})
    facts = DataFacts(arguments.batch, None, arguments.batch, 1)
    method, optimizer, mesh = create_method(config, facts), create_optimizer(config.optimizer), create_mesh(jax.devices()[:1])
    target = abstract_state(method, facts, optimizer, mesh)
    step = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 1000, 1), 1000), mesh)
    state, batch = create_state(method, facts, optimizer, 0, target), to_device(noise_batch(method, facts), mesh)

    def take(count: int) -> None:
        nonlocal state
        metrics: Any = None
        for _ in range(count):
            state, metrics = step(state, batch)
        jax.block_until_ready(metrics)

    return take


def _ratio(name: str, ratios: list[float], aim: str) -> None:
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    print_row(name, round(middle, 3), "ratio of seconds", quartiles=[round(low, 3), round(high, 3)], rounds=len(ratios), aim=aim)


def _seconds(take: Steps, count: int) -> float:
    start = time.perf_counter()
    take(count)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
