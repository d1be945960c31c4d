"""`jigclu doctor`: what this machine has, what is wrong with it, how fast images come and steps go, and how long a training would take.

Every part stands by itself: one that fails is a line, and the others follow. What is not measured but computed is called an estimate.
"""

import argparse
import functools
import math
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jigclu_jax.config import check_config, load_config
from jigclu_jax.config.command_line import Parser, add_set, find_config, override, settings_of
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.sampler import Sampler
from jigclu_jax.data.sources.opening import Source, Subset, open_source
from jigclu_jax.data.view import shape_of
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.errors import UserError, counted, one_line
from jigclu_jax.jobs.machine import Machine, describe, look, problems
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.progress import duration
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step
from jigclu_jax.train.supply import open_supply

T = TypeVar("T")
_ABOUT = "What this machine has, what is wrong with it, how fast images come and steps go, and how long a training would take."
COLUMNS = 100
_CPU_BATCH = 16  # images of a measured step on a CPU
_PHOTO = (500, 375)  # pixels of the synthetic images
_PHOTOS = 32
_IMAGE_MIB = 43.0  # of ResNet-50 at 224 pixels in bfloat16, an image of the batch: 43 GiB for 1,024 on an H200 (docs/results.md)
_RESNET50 = 2.3  # times the operations of ResNet-18 (4.1 and 1.8 GFLOP a picture of 224 pixels)


@run_scope()
def command(arguments: Sequence[str]) -> None:
    """Looks, measures and prints.

    Raises:
      UserError: anything wrong with the command line itself.
      SystemExit: help was asked for, and is printed.
    """
    parser = Parser(prog="jigclu doctor", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("--data", default="", help="a folder of your images; without it, synthetic photographs are read")
    parser.add_argument("--config", default="", help="a config as for a run, pretrain_folder where none is given")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    add_set(parser)
    given = parser.parse_args(arguments)
    if not 0 < given.seconds <= 600:
        raise UserError(f"--seconds={given.seconds:g}: give a number above 0, up to 600")
    machine = look(".")
    config = _config(given, machine)
    print("This machine")
    _say(*describe(machine))
    print("What is wrong")
    _say(*(problems(machine) or ["nothing that can be seen without measuring"]))
    if not machine.platform:
        return
    distributed.start()
    start_cache()
    with tempfile.TemporaryDirectory() as folder:
        _measure(config, machine, given, folder)


def _config(given: argparse.Namespace, machine: Machine) -> ConfigDict:
    """The config that is measured: as given, else ResNet-18 on own images, of 112 pixels on a CPU."""
    spec = given.config or (
        "pretrain_folder:image_size=112" if machine.platform != "gpu" and machine.platform != "tpu" else "pretrain_folder"
    )
    config = load_config(*find_config(spec))
    if config.job != "pretrain":
        raise UserError(f"--config={spec} is for the job {config.job}: give one of a pretraining")
    for name, text in settings_of(given.set).items():
        override(config, name, text)
    check_config(config, f"--config={spec}")
    return config


def _measure(config: ConfigDict, machine: Machine, given: argparse.Namespace, folder: str) -> None:
    print(f"Measured: {config.method.name}, {config.model.arch}, {config.data.image_size} pixels; a minute or two")
    source = _attempt(lambda: _open(config, given.data, folder))
    rates: dict[str, float] = {}
    if isinstance(source, str):
        _say(f"images: {source}")
    else:
        _say(f"images: {given.data or 'synthetic photographs'}")
        for place in ("host", "device"):
            rate = _attempt(functools.partial(input_rate, config, source, place, given.seconds))
            _say(f"read and cut, data.augment={place}: {rate if isinstance(rate, str) else _per_second(rate)}")
            rates |= {} if isinstance(rate, str) else {place: rate}
    step = _attempt(lambda: step_rate(config, machine, given.seconds))
    if isinstance(step, str):
        _say(f"training step: {step}")
        return
    rate, batch, compiled = step
    _say(f"training step on noise in memory: {_per_second(rate)} in batches of {batch}; the first step took {compiled:.0f} s")
    print("What follows from it")
    _say(*advice(config, machine, rates, rate, len(source) if given.data and not isinstance(source, str) else 0))


def advice(config: ConfigDict, machine: Machine, rates: dict[str, float], step: float, images: int) -> list[str]:
    """Which config fits, what limits it, and how long it would take.

    Args:
      config: what was measured.
      machine: where.
      rates: images/s of the input by `data.augment`.
      step: images/s of the training step.
      images: how many the user has; 0 where that is not known.
    """
    place = max(rates, key=lambda name: min(rates[name], step), default="")
    lines = []
    if place:
        slower = min(rates[place], step)
        lines.append(
            f"data.augment={place} fits: about {_per_second(slower)} (estimate), limited by "
            + ("the step." if step <= rates[place] else "the input.")
        )
        if rates[place] < step:
            cores = math.ceil(machine.cores * step / rates[place])
            lines.append(
                f"{machine.cores} cores are few for this device: about {cores} would feed it (estimate). Shards of the prepare job, smaller"
                " files, or data.augment=resident where all images fit into the device's memory need less."
            )
        count = images or 10_000
        each = count / slower
        lines.append(
            f"Estimate for {'your' if images else 'any'} {counted(count, 'image')}: {duration(each)} an epoch,"
            f" {duration(each * config.epochs)} for {counted(config.epochs, 'epoch')}."
        )
    if machine.device_memory:
        most = 2 ** int(math.log2(max(0.8 * machine.device_memory * 1024 / _IMAGE_MIB, 1)))
        lines.append(
            f"ResNet-50 at 224 pixels in bfloat16 fits in batches of about {min(most, 4096)} a device, and takes about"
            f" {_RESNET50:g} times the operations of ResNet-18 (estimates)."
        )
    else:
        lines.append(f"ResNet-50 takes about {_RESNET50:g} times the operations of ResNet-18 (estimate): it wants an accelerator.")
    return lines


def input_rate(config: ConfigDict, source: Source, place: str, seconds: float) -> float:
    """Images/s of the pipeline of a run with `data.augment=place`, over that many seconds or one batch; UserError as a run has it."""
    config = config.copy_and_resolve_references()
    config.data.augment, config.data.min_side = place, 1
    size = create_mesh().size
    config.batch_size = max(min(config.batch_size, 64) // size, 1) * size
    # gone through over and over, so that few images fill many batches
    rounds = -(-100 * config.batch_size // len(source))
    many = Subset(source, np.arange(rounds * len(source)) % len(source))
    facts = facts_of(config, many)
    supply = open_supply(config, many, create_method(config, facts), facts, create_mesh())
    stream = supply.batches(0, 1 << 30)
    try:
        next(stream)
        next(stream)  # what was read ahead of the first is not counted
        return config.batch_size / _seconds_of(lambda: next(stream), seconds)
    finally:
        stream.close()


def step_rate(config: ConfigDict, machine: Machine, seconds: float) -> tuple[float, int, float]:
    """(images/s of the training step on noise that lies on the device, images a batch, seconds until the first step was done)."""
    mesh = create_mesh()
    batch = config.batch_size if machine.device_memory else min(config.batch_size, _CPU_BATCH)
    batch = max(batch // mesh.size, 1) * mesh.size
    config = config.copy_and_resolve_references()
    config.batch_size = batch
    facts = DataFacts(batch, None, batch, 1)
    method, optimizer = create_method(config, facts), create_optimizer(config.optimizer)
    target = abstract_state(method, facts, optimizer, mesh)
    state = create_state(method, facts, optimizer, config.seed, target)
    step = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 1000, 1), 1000), mesh, target=target)
    sampler = Sampler(batch, method.views, seed=config.seed, batch_size=batch, steps_per_epoch=1)
    host = next(IndexStream(sampler, None, 0))
    generator = np.random.default_rng(0)
    for view in method.views:
        host[view.name]["image"] = generator.integers(0, 255, shape_of(view, batch), np.uint8)
    pictures = to_device(host, mesh)

    def one() -> None:
        nonlocal state
        state, metrics = step(state, pictures)
        jax.block_until_ready(metrics)

    start = time.perf_counter()
    one()
    compiled = time.perf_counter() - start
    one()  # the first two bring the state into its final layout
    return batch / _seconds_of(one, seconds), batch, compiled


def _seconds_of(action: Callable[[], object], seconds: float) -> float:
    """Of one call: the mean over as many as begin within `seconds`, one at least."""
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < seconds:
        action()
        count += 1
    return (time.perf_counter() - start) / count


def _open(config: ConfigDict, data: str, folder: str) -> Source:
    """The user's images, or synthetic photographs written into a folder."""
    own = config.data.copy_and_resolve_references()
    own.update({"source": "folder", "path": data or folder, "split": "", "limit": 0})
    if not data:
        for number, photo in enumerate(_photos()):
            Image.fromarray(photo).resize(_PHOTO, Image.Resampling.BICUBIC).save(f"{folder}/{number}.jpg", quality=90)
    return open_source(own, seed=config.seed)


def _photos() -> Iterator[np.ndarray]:
    """uint8[h, w, 3]: noise that, enlarged, has about the detail of a photograph."""
    generator = np.random.default_rng(0)
    for _ in range(_PHOTOS):
        yield generator.integers(0, 255, (_PHOTO[1] // 6, _PHOTO[0] // 6, 3), np.uint8)


def _attempt(action: Callable[[], T]) -> T | str:
    """What the action gives; where it fails, why, in one line."""
    try:
        return action()
    except Exception as error:  # whatever goes wrong in one part is told, and the other parts are of use
        name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return f"failed: {name}{one_line(error)}"


def _per_second(rate: float) -> str:
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"


def _say(*lines: str) -> None:
    for line in lines:
        print(textwrap.fill(line, COLUMNS, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False), flush=True)
