"""Prints the first lines of a job: which images it found, what is odd about them, and what it runs on."""

import logging

import jax

from jigclu_jax.data.sources.look import oddities, summary
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.device import distributed


def introduce(source: Source, group: str) -> None:
    """Prints what `config[group]` holds and the devices, and warns of odd pictures, on the process that speaks.

    Raises:
      UnknownWhite: the files leave open which sample is white.
    """
    if not distributed.is_main():
        return
    print(f"{group}: {summary(source)}", flush=True)
    if group == "data":
        print(f"devices: {_devices()}", flush=True)
    for line in oddities(source):
        logging.warning("config.%s: %s", group, line)


def _devices() -> str:
    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{len(devices)} x {', '.join(kinds)}{hosts}"
