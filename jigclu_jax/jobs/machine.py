"""What a machine has, and what is wrong with it for training: facts that are looked up, and sentences that follow from them alone."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from jigclu_jax.errors import one_line

# Of the CUDA that a plugin is built for: the oldest driver.
_DRIVERS = {"cuda13": 580, "cuda12": 525}
_LEAST_DISK = 2.0  # GiB: a few checkpoints of a ResNet-50


@dataclass(frozen=True)
class Machine:
    """Facts about this machine and process.

    Attributes:
      platform: of JAX's devices: cpu, gpu, tpu; "" where JAX has started none.
      devices: their number, and `kind` what they are called.
      device_memory: of one device in GiB; 0 where it is the machine's.
      error: why JAX has started no device.
      cores: that this process may use.
      memory: of the machine in GiB.
      disk: free in the folder where it was looked, in GiB.
      packages: that are installed, name -> version.
      driver: of NVIDIA, "" for none.
      plugin: "cuda13", "cuda12" or "".
      tpu: whether the machine has a TPU's device files.
      x64, no_jit, nans: JAX's flags.
      platforms: JAX_PLATFORMS of the environment.
    """

    platform: str = "cpu"
    devices: int = 1
    kind: str = "cpu"
    device_memory: float = 0.0
    error: str = ""
    cores: int = 8
    memory: float = 16.0
    disk: float = 100.0
    packages: tuple[tuple[str, str], ...] = (("simplejpeg", "1"), ("cykooz-resizer", "1"), ("tensorflow-cpu", "1"))
    driver: str = ""
    plugin: str = ""
    tpu: bool = False
    x64: bool = False
    no_jit: bool = False
    nans: bool = False
    platforms: str = ""

    def version(self, *names: str) -> str:
        """Version of the first of these packages that is installed; "" for none."""
        found = dict(self.packages)
        return next((found[name] for name in names if name in found), "")


_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "simplejpeg", "cykooz-resizer"),
    *("tensorflow-cpu", "tensorflow", "jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu"),
)


def look(folder: str) -> Machine:
    """The facts; `folder` is where free disk is looked up."""
    packages = []
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages.append((name, importlib.metadata.version(name)))
    found, error = [], ""
    try:
        found = jax.devices()
    except RuntimeError as problem:  # a platform that does not start
        error = one_line(problem)
    first = found[0] if found else None
    limit = (first.memory_stats() or {}).get("bytes_limit", 0) if first else 0
    flags = jax.config.values
    installed = {name for name, _ in packages}
    return Machine(
        platform=first.platform if first else "",
        devices=len(found),
        kind=first.device_kind if first else "",
        device_memory=limit / 2**30,
        error=error,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        disk=shutil.disk_usage(folder).free / 2**30,
        packages=tuple(packages),
        driver=_driver(),
        plugin=next((cuda for cuda in _DRIVERS if f"jax-{cuda}-plugin" in installed), ""),
        tpu=any(name.startswith("accel") for name in _names("/dev")) or (bool(_names("/dev/vfio")) and "libtpu" in installed),
        x64=bool(flags["jax_enable_x64"]),
        no_jit=bool(flags["jax_disable_jit"]),
        nans=bool(flags["jax_debug_nans"]),
        platforms=os.environ.get("JAX_PLATFORMS", ""),
    )


def describe(machine: Machine) -> list[str]:
    """The facts for a person, three lines."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    device = f"{machine.devices} x {machine.kind}" + (f" with {machine.device_memory:.1f} GiB each" if machine.device_memory else "")
    return [
        f"{system}, {machine.cores} cores, {machine.memory:.1f} GiB of memory, {machine.disk:.0f} GiB of free disk",
        "devices: " + (f"none ({machine.error[:80]})" if machine.error else device),
        ", ".join(f"{name} {version}" for name, version in machine.packages),
    ]


def problems(machine: Machine) -> Sequence[str]:
    """What is wrong, a sentence each with what to do; nothing is measured for it."""
    found = []
    if machine.error:
        asked = f" with JAX_PLATFORMS={machine.platforms}: unset it" if machine.platforms else ""
        found.append(f"JAX cannot start{asked} ({machine.error[:120]}).")
    if machine.driver and machine.platform != "gpu":
        found.append(_no_gpu(machine))
    if (
        machine.plugin
        and machine.driver
        and (major := machine.driver.partition(".")[0]).isdigit()
        and int(major) < _DRIVERS[machine.plugin]
    ):
        found.append(
            f"The NVIDIA driver {machine.driver} is older than {_DRIVERS[machine.plugin]}, which {machine.plugin} needs: update it"
            + (', or pip install "jax[cuda12]".' if machine.plugin == "cuda13" else ".")
        )
    if machine.plugin and machine.version(f"jax-{machine.plugin}-plugin") != machine.version("jaxlib"):
        found.append(
            f"jaxlib {machine.version('jaxlib')} and its CUDA plugin {machine.version(f'jax-{machine.plugin}-plugin')} are of different"
            f' versions: pip install "jax[{machine.plugin}]=={machine.version("jax")}".'
        )
    if machine.tpu and machine.platform != "tpu":
        found.append("This machine has a TPU, and JAX does not use it: pip install 'jigclu_jax[tpu]', and unset JAX_PLATFORMS.")
    if machine.platform == "cpu" and not machine.driver and not machine.tpu:
        found.append("There is no accelerator: small images and ResNet-18 are what a CPU can train.")
    if machine.x64:
        found.append("JAX computes in 64 bits (JAX_ENABLE_X64): unset it, an accelerator is many times as fast without.")
    if machine.no_jit:
        found.append("JAX compiles nothing (JAX_DISABLE_JIT): unset it.")
    if machine.nans:
        found.append("JAX looks for NaN after every operation (JAX_DEBUG_NANS): unset it but to find one.")
    if not machine.version("simplejpeg"):
        found.append("simplejpeg is missing: JPEG files take longer. pip install simplejpeg")
    if not machine.version("cykooz-resizer"):
        found.append("cykooz-resizer is missing: crops take three times as long. pip install cykooz-resizer")
    if not machine.version("tensorflow-cpu", "tensorflow"):
        found.append("TensorFlow is missing: say --config.data.augment=device, or pip install tensorflow-cpu.")
    if machine.disk < _LEAST_DISK:
        found.append(f"{machine.disk:.1f} GiB of free disk hold few checkpoints: make room, or give another --workdir.")
    return found


def _no_gpu(machine: Machine) -> str:
    start = f"There is an NVIDIA driver ({machine.driver}), and JAX uses no GPU: "
    if machine.platforms and "cuda" not in machine.platforms and "gpu" not in machine.platforms:
        return f"{start}JAX_PLATFORMS={machine.platforms} says so; unset it."
    if not machine.plugin:
        return f"{start}jaxlib is here without CUDA; pip install 'jigclu_jax[cuda]'."
    return f"{start}its plugin {machine.plugin} does not start{f' ({machine.error[:60]})' if machine.error else ''}; look at nvidia-smi."


def _driver() -> str:
    """Version of NVIDIA's driver; "" where nvidia-smi is not there or finds no GPU."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout.splitlines() or [""])[0].strip()


def _names(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []
