"""Loads a backbone from a weights file of another program: torchvision's ResNets, or the JigClu authors' checkpoints."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jigclu_jax.errors import UserError
from jigclu_jax.interop.authors import from_authors
from jigclu_jax.interop.torchvision import NumpyTree, from_torchvision, to_torchvision
from jigclu_jax.interop.weight_files import read_state
from jigclu_jax.models import ARCHITECTURES, build_backbone
from jigclu_jax.models.architectures import architecture, stage_channels


def load_weights(path: epath.PathLike) -> tuple[NumpyTree, NumpyTree, dict[str, Any]]:
    """(params, stats, model) of the backbone in a file: `.npz` of a state dict's arrays, or `.pth` (needs PyTorch).

    A checkpoint with the clustering and location heads is read as the authors', anything else as torchvision's; `model` holds
    the fields arch, stem and width that its shapes tell. The trees are float32, whatever the file's precision.

    Raises:
      UserError: no such file, it cannot be read, it holds no ResNet, or numbers that no backbone can have.
    """
    state = read_state(epath.Path(path).expanduser())
    try:
        if any("fc_clu.0.weight" in str(name) for name in state):
            heads_too, stats_too = from_authors(state)
            params, stats = heads_too["backbone"], stats_too["backbone"]
        else:
            # the prefix of a model that was trained on several GPUs
            params, stats = from_torchvision({str(name).removeprefix("module."): value for name, value in state.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}: give the state dict of a torchvision ResNet or of the authors' checkpoint") from None
    except TypeError as error:  # what numpy has no dtype for
        raise UserError(f"{path}: {error}: save the weights as float32") from None
    _check_numbers(to_torchvision(params, stats), str(path))
    params, stats = jax.tree.map(lambda leaf: leaf.astype(np.float32), (params, stats))
    return params, stats, model_of(params, stats, str(path))


def _check_numbers(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """UserError, naming the array, where values are no floating-point numbers or would make features void."""
    for name, array in arrays.items():
        if name.endswith(".num_batches_tracked"):
            continue
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"{where}: {name} has dtype {array.dtype}: save the weights as float32")
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise UserError(f"{where}: {name} holds values that are no finite float32 numbers: the training that wrote it has failed")
        if name.endswith(".running_var") and (array < 0).any():
            raise UserError(f"{where}: {name} holds negative variances: fetch or export the file again")


def model_of(params: NumpyTree, stats: NumpyTree, where: str) -> dict[str, Any]:
    """The config fields arch, stem and width of the backbone whose shapes these are; UserError, naming `where`, if there is none."""
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
            if _shapes(jax.eval_shape(build_backbone(model).init, jax.random.key(0))) == wanted:
                return model
    raise UserError(f"{where}: these are a ResNet's weights, but of none of {', '.join(ARCHITECTURES)} at width {exact:g}")


def _likely(name: str, params: NumpyTree, width: float) -> bool:
    """Whether blocks, their kind and the first 3x3 kernel are those of the architecture."""
    arch = architecture(name)
    blocks = tuple(len(params[f"layer{stage}"]) for stage in range(1, 5))
    first = params["layer1"]["block0"]
    inner = stage_channels(arch, 0, width)[0]
    kernel = first["conv2"]["kernel"].shape
    return blocks == arch.blocks and arch.bottleneck == ("conv3" in first) and kernel[2:] == (inner // arch.groups, inner)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


__all__ = ["load_weights", "model_of"]
