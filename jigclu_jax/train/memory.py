"""The least memory that a run takes, by closed form: an absurd config is refused before anything is compiled; errors of memory."""

import math
import os
import resource
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.data.view import shape_of
from jigclu_jax.errors import UserError, counted, one_line
from jigclu_jax.methods import Method
from jigclu_jax.models.architectures import scaled
from jigclu_jax.train.state import TrainState

_MOST_STEPS = 2**31 - 1  # of the state's counter
_WORKER = 2**26  # bytes of an input process, at least


def check_size(config: ConfigDict, method: Method, target: TrainState, mesh: Mesh, total_steps: int) -> None:
    """Refuse a run that no memory here holds, or of more steps than can be counted.

    What is counted is less than the run takes: parameters and their gradient, statistics and the method's own state; the pictures of a
    micro-batch in bytes and as numbers, and what the first convolution makes of them.

    Raises:
      UserError: naming the sizes, and the field that the largest part follows from.
    """
    if total_steps > _MOST_STEPS:
        raise UserError(
            f"config.epochs={config.epochs} makes {counted(total_steps, 'step')}, more than the {_MOST_STEPS:,} that can be counted"
        )
    sharing = _sharing(mesh)
    backbone = target.params.get("backbone", {})
    heads = _bytes(target.params) - _bytes(backbone)
    parts = {
        "the backbone, lower config.model.width": sharing * (2 * _bytes(backbone) + _bytes(target.stats)),
        "what the method keeps beside, lower config.method.*": sharing * (2 * heads + _bytes(target.extra)),
        "pictures, lower config.batch_size or config.data.image_size": sharing * _picture_bytes(config, method) // mesh.size,
    }
    check_room(parts, mesh)
    check_room({"input processes, lower config.data.workers": _WORKER * config.data.workers})


def check_pass(model: Mapping[str, Any] | ConfigDict, batch_size: int, side: int, mesh: Mesh, fields: str) -> None:
    """Refuse a pass of a frozen backbone over batches of images of `side` pixels that no memory here holds; as `check_size`.

    `fields` are those that the size follows from.
    """
    values = 3 * batch_size * side**2
    check_room({f"pictures, lower {fields}": _sharing(mesh) * _bytes_of(values, model, 1) / mesh.size}, mesh)


def check_room(parts: Mapping[str, float], mesh: Mesh | None = None) -> None:
    """UserError where a device, or this machine, has no room for parts of so many bytes together; their names say what is at fault."""
    limit = (_own_limit(mesh) if mesh else 0) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if sum(parts.values()) > limit:
        most = max(parts, key=lambda name: parts[name])
        raise UserError(f"this run takes at least {_gib(sum(parts.values()))}, and there are {_gib(limit)}; {_gib(parts[most])} are {most}")


def memory_error(error: BaseException) -> UserError | None:
    """The error as one line, where it or what it came from is a device or a machine without memory left; None for any other."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError) or ("RESOURCE_EXHAUSTED" in str(found) and "memory" in str(found).lower()):
            advice = "lower config.batch_size or the side of the images, or set config.accumulate or config.model.remat"
            return UserError(f"memory ran out ({one_line(found)}): {advice}")
        found = found.__cause__ or found.__context__
    return None


def peak_memory() -> int:
    """The most bytes that the first device of this process has held since it began; on a CPU the process, with everything in it."""
    held = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return held or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # in KiB


def own_peak(before: int) -> float | None:
    """The peak in GiB of what has run since `peak_memory` was `before`; None where something earlier in the process held as much."""
    peak = peak_memory()
    return peak / 2**30 if peak > before else None


def _picture_bytes(config: ConfigDict, method: Method) -> int:
    """Of a global batch's pictures, on the devices together."""
    values = sum(math.prod(shape_of(view, config.batch_size)) for view in method.views)
    return _bytes_of(values, config.model, config.accumulate)


def _bytes_of(values: int, model: Mapping[str, Any] | ConfigDict, accumulate: int) -> int:
    """Of so many values of pictures: in bytes, and a micro-batch as numbers and as what the first convolution makes of them."""
    number = jax.numpy.dtype(model["dtype"]).itemsize
    channels = scaled(64, model["width"]) / (1 if model["stem"] == "small" else 4)
    return round(values * (1 + (number + number * channels / 3) / accumulate))


def _own_limit(mesh: Mesh) -> int:
    """Bytes of memory of a device's own; 0 for a CPU's."""
    limit: int = (mesh.local_devices[0].memory_stats() or {}).get("bytes_limit", 0)
    return limit


def _sharing(mesh: Mesh) -> int:
    """How many devices have one memory: a CPU's all do."""
    return 1 if _own_limit(mesh) else len(mesh.local_devices)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf.dtype, "itemsize"))


def _gib(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"
