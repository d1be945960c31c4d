"""Prints the first lines of a job: which images it found, what is odd about them, what it runs on and how it computes."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from jigclu_jax.data.sources.look import oddities, summary
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.device import distributed
from jigclu_jax.errors import counted

_FIRST_WITH_TF32 = 8.0  # compute capability: Ampere


def introduce(source: Source, group: str, model: Mapping[str, Any] | ConfigDict | None = None) -> None:
    """Prints what `config[group]` holds, the devices and what `model` computes in, and warns of odd pictures, on the process that speaks.

    Raises:
      UnknownWhite: the files leave open which sample is white.
    """
    if not distributed.is_main():
        return
    print(f"{group}: {summary(source)}", flush=True)
    if group == "data":
        numbers = f"; computing in {arithmetic(model, jax.devices()[0])}" if model else ""
        print(f"devices: {_devices()}{numbers}", flush=True)
    for line in oddities(source):
        logging.warning("config.%s: %s", group, line)


def arithmetic(model: Mapping[str, Any] | ConfigDict, device: Any) -> str:
    """What the backbone's convolutions and products really compute in on that device, for a person."""
    dtype, precision = model["dtype"], model.get("precision", "default")
    flags: Any = jax.config  # whose types name no flags
    chosen = flags.jax_default_matmul_precision
    if dtype != "float32" or precision == "highest":
        return str(dtype)
    if chosen:
        return f"float32 with JAX_DEFAULT_MATMUL_PRECISION={chosen}"
    narrow = {"gpu": "TF32", "tpu": "bfloat16"}.get(device.platform)
    if narrow is None or (narrow == "TF32" and float(getattr(device, "compute_capability", 0) or 0) < _FIRST_WITH_TF32):
        return "float32"
    return f"float32 with products in {narrow} (--config.model.precision=highest: in float32)"


def about_to_compile(images: int, batch: int, devices: int, steps: int) -> str:
    """The line before a run's first step: how much a step takes, how many there will be, and why nothing moves for a while."""
    each = f", {batch // devices:,} a device" if devices > 1 else ""
    then = f"about a minute the first time, then {counted(steps, 'step')}"
    return f"compiling the step for {counted(images, 'image')} in batches of {batch:,}{each}: {then}"


def _devices() -> str:
    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{len(devices)} x {', '.join(kinds)}{hosts}, {_memory(jax.local_devices()[0])}"


def _memory(device: Any) -> str:
    own = (device.memory_stats() or {}).get("bytes_limit")
    whole = own or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{whole / 2**30:.1f} GiB {'for each' if own else 'of the machine'}"
