"""Loads a backbone from a file of weights of any program that trains ResNets in PyTorch, and reports what was taken and what was left."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jigclu_jax.errors import UserError, first_few, plain
from jigclu_jax.interop.layouts import Candidate, candidates, choose, groups
from jigclu_jax.interop.torch_files import Contents, StoredArray
from jigclu_jax.interop.torchvision import NumpyTree, from_torchvision
from jigclu_jax.interop.weight_files import opened_arrays
from jigclu_jax.models import ARCHITECTURES, build_backbone
from jigclu_jax.models.architectures import architecture, stage_channels

_FIRST = "conv1.weight"
_MOST_NUMBERS = 2**29  # of a backbone: a ResNet-50 of four times the width has 375 million
_ALIKE = re.compile("res[a-z]*(blur|aa)")  # timm's ResNets with blurred or averaged pooling, which has no arrays


class Imported(NamedTuple):
    """A backbone from a file.

    Attributes:
      params: its parameters, float32, nested dicts of numpy arrays.
      stats: its BatchNorm statistics, float32.
      model: the fields arch, stem and width that its shapes tell.
      report: lines that say what was mapped, what was left, and why.
    """

    params: NumpyTree
    stats: NumpyTree
    model: dict[str, Any]
    report: tuple[str, ...]


def load_weights(path: epath.PathLike, prefix: str = "", channels: str = "") -> Imported:
    """The backbone in a `.safetensors`, `.npz`, `.pth`, `.pt`, `.ckpt`, `.bin` or `.pth.tar` file, or in a folder of timm's.

    Args:
      path: the file; nothing in it is run, and PyTorch is not needed.
      prefix: under which it lies ("encoder_q"), where the file holds more than one.
      channels: what is done with a first convolution of other than 3 channels: "" refuses it, "mean" gives each of the 3 the mean of the
        file's, "repeat" takes the file's in turn; both are scaled so that equal channels give the responses that they gave before.

    Raises:
      UserError: no such file, it cannot be read, it holds no whole ResNet or several, or numbers that no backbone can have.
    """
    root = epath.Path(path).expanduser()
    with opened_arrays(root) as contents:
        arrays = contents.arrays
        try:
            chosen = _chosen(candidates(arrays), prefix, contents)
            _check(chosen, contents)
            state = {name: _checked(arrays[stored], stored) for name, stored in chosen.names.items()}
            adapted = state[_FIRST].ndim == 4 and state[_FIRST].shape[1] != 3
            if adapted:
                state[_FIRST] = _three_channels(state[_FIRST], chosen.names[_FIRST], channels)
            params, stats = from_torchvision(state)
            model = model_of(params, stats)
        except UserError as error:
            raise UserError(f"{root}: {plain(str(error))}") from None
        notes = (f"the first convolution's channels were brought to 3 by {channels!r}",) if adapted else ()
        report = map(plain, (*_report(root, chosen, model, contents), *notes, *contents.notes))
        return Imported(params, stats, model, tuple(report))


def _chosen(found: list[Candidate], prefix: str, contents: Contents) -> Candidate:
    """What `choose` gives; where nothing is whole, its UserError tells how what lies in Python objects is saved as tensors."""
    try:
        return choose(found, prefix, contents.arrays)
    except UserError as error:
        if not contents.things or any(one.complete for one in found):
            raise
        raise UserError(
            f"{error}; Python objects in it are not made ({first_few(contents.things, 4)}): if the weights are theirs and you trust the "
            'file, save them alone where it was written: torch.save(model.state_dict(), "weights.pth")'
        ) from None


def _check(chosen: Candidate, contents: Contents) -> None:
    """UserError where the file names a network that has these arrays and computes otherwise, or where they claim too much memory."""
    if other := [name for name in contents.networks if _ALIKE.search(name)]:
        raise UserError(f"says it is {other[0]}, which has a ResNet's arrays and pools otherwise: this library has no such network")
    claimed = sum(math.prod(contents.arrays[stored].shape) for stored in chosen.names.values())
    if claimed > _MOST_NUMBERS:
        raise UserError(f"claims {claimed:,} numbers for a backbone, more than any has: fetch or export it again")


def _report(path: epath.Path, chosen: Candidate, model: Mapping[str, Any], contents: Contents) -> tuple[str, ...]:
    arrays = contents.arrays
    mapped, counters = set(chosen.names.values()), [name for name in arrays if name.endswith(".num_batches_tracked")]
    left = groups([name for name in arrays if name not in mapped and not name.endswith(".num_batches_tracked")], chosen.prefix)
    under = f" under {chosen.prefix.rstrip('.')!r}" if chosen.prefix else ""
    layout = "" if chosen.layout == "torchvision" else f", in the layout {chosen.layout}"
    dtypes = sorted({str(arrays[name].dtype) for name in chosen.names.values()} - {"float32"})
    lines = [
        f"{path}: {model['arch']} (stem {model['stem']}, width {model['width']:g}): all {len(chosen.names)} arrays were mapped{under}"
        f"{layout}{f', from {first_few(dtypes)}' if dtypes else ''}"
    ]
    if left:
        lines.append(f"left, as no part of that backbone: {first_few(left, 8)}")
    if counters:
        lines.append(f"left, as BatchNorm's counters are not used: {len(counters)} num_batches_tracked")
    if contents.things:
        lines.append(f"left, as nothing in a file is run: {first_few(contents.things, 12)}")
    return tuple(lines)


def _three_channels(kernel: np.ndarray, name: str, how: str) -> np.ndarray:
    """The first convolution [out, channels, k, k] for three channels."""
    count = kernel.shape[1]
    if not how or not count:
        raise UserError(
            f"{name} takes {count} channels, this library's backbones 3: give channels as 'mean' or 'repeat' to have 3 made of them"
        )
    taken = kernel.mean(1, keepdims=True) if how == "mean" else kernel
    return taken[:, np.arange(3) % taken.shape[1]] * np.float32(count / 3)


def _checked(stored: StoredArray, name: str) -> np.ndarray:
    """The array in float32; UserError, naming it, where values are no floating-point numbers or would make features void."""
    if not jnp.issubdtype(stored.dtype, jnp.floating):
        raise UserError(f"{name} has dtype {stored.kind}: save the weights as float32")
    array = stored.read()
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise UserError(f"{name} holds values that are no finite float32 numbers: the training that wrote it has failed")
    if name.endswith(".running_var") and (narrow < 0).any():
        raise UserError(f"{name} holds negative variances: fetch or export the file again")
    return narrow


def model_of(params: NumpyTree, stats: NumpyTree) -> dict[str, Any]:
    """The config fields arch, stem and width of the backbone whose shapes these are; UserError if there is none."""
    stem = "imagenet" if params["conv1"]["kernel"].shape[0] == 7 else "small"
    last = params["layer4"]["block0"]
    # channels are rounded: the widest layer tells the multiplier best, and it is a round number as a rule
    channels, whole = (last["conv3"], 2048) if "conv3" in last else (last["conv2"], 512)
    exact = channels["kernel"].shape[-1] / whole
    wanted = _shapes((params, stats))
    for width in dict.fromkeys((round(exact, 2), exact)):
        for arch in ARCHITECTURES:
            if width <= 0 or not _likely(arch, params, width):  # building a deep backbone to see its shapes takes seconds
                continue
            model = {"arch": arch, "stem": stem, "width": width}
            if _shapes_of(arch, stem, width) == wanted:
                return model
    raise UserError(f"these are a ResNet's weights, but of none of {', '.join(ARCHITECTURES)} at width {exact:g}")


def _likely(name: str, params: NumpyTree, width: float) -> bool:
    """Whether blocks, their kind and the first 3x3 kernel are those of the architecture."""
    arch = architecture(name)
    blocks = tuple(len(params[f"layer{stage}"]) for stage in range(1, 5))
    first = params["layer1"]["block0"]
    inner = stage_channels(arch, 0, width)[0]
    kernel = first["conv2"]["kernel"].shape
    return blocks == arch.blocks and arch.bottleneck == ("conv3" in first) and kernel[2:] == (inner // arch.groups, inner)


@functools.lru_cache
def _shapes_of(arch: str, stem: str, width: float) -> dict[str, tuple[int, ...]]:
    return _shapes(jax.eval_shape(build_backbone({"arch": arch, "stem": stem, "width": width}).init, jax.random.key(0)))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
