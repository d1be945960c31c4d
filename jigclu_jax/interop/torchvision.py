"""Converts backbone trees to torchvision's ResNet state dicts and back, for any depth, stem and width. Needs numpy alone."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jigclu_jax.errors import UserError, first_few

NumpyTree: TypeAlias = dict[str, Any]  # nested; the leaves are np.ndarray
TreeLike: TypeAlias = Mapping[str, Any]

# torchvision's depths: blocks of the four stages, convolutions in a block
_DEPTHS: tuple[tuple[tuple[int, int, int, int], int], ...] = (
    ((1, 1, 1, 1), 2),  # no network of torchvision, named as one
    ((2, 2, 2, 2), 2),
    ((3, 4, 6, 3), 2),
    ((3, 4, 6, 3), 3),
    ((3, 4, 23, 3), 3),
    ((3, 8, 36, 3), 3),
)

_BATCH_NORM = (
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "stats", "mean"),
    ("running_var", "stats", "var"),
)


def _layers(blocks: tuple[int, int, int, int], convolutions: int) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Every layer as (torchvision's name, our path, is it a convolution), in torchvision's order."""
    yield "conv1", ("conv1",), True
    yield "bn1", ("bn1",), False
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            theirs, ours = f"layer{stage}.{block}", (f"layer{stage}", f"block{block}")
            for i in range(1, convolutions + 1):
                yield f"{theirs}.conv{i}", (*ours, f"conv{i}"), True
                yield f"{theirs}.bn{i}", (*ours, f"bn{i}"), False
            if block == 0 and (stage > 1 or convolutions == 3):
                yield f"{theirs}.downsample.0", (*ours, "downsample", "conv"), True
                yield f"{theirs}.downsample.1", (*ours, "downsample", "bn"), False


def _required_keys(depth: tuple[tuple[int, int, int, int], int]) -> set[str]:
    return {
        f"{name}.{leaf}"
        for name, _, convolution in _layers(*depth)
        for leaf in (("weight",) if convolution else (theirs for theirs, _, _ in _BATCH_NORM))
    }


def nearest_keys(names: Iterable[str]) -> set[str]:
    """The keys of the ResNet that needs the fewest corrections of the names, so that a cut-off checkpoint is told as such."""
    given = set(names)
    return min((_required_keys(depth) for depth in _DEPTHS), key=lambda keys: len(keys ^ given))


def to_torchvision(params: TreeLike, stats: TreeLike) -> dict[str, np.ndarray]:
    """The state dict of torchvision's ResNet without `fc` from a backbone's trees: OIHW convolutions, dtypes kept.

    `num_batches_tracked` is 0 everywhere (int64, no axes): PyTorch wants the key and, with a fixed momentum, ignores its
    value. Load it with `model.load_state_dict({k: torch.from_numpy(v) for k, v in ...}, strict=False)`. UserError when the
    trees are not those of a backbone.
    """
    blocks = tuple(len(params.get(f"layer{stage}", ())) for stage in range(1, 5))
    convolutions = 3 if "conv3" in params.get("layer1", {}).get("block0", {}) else 2
    depth = next((d for d in _DEPTHS if d == (blocks, convolutions)), None)
    if depth is None:
        raise UserError(
            f"to_torchvision: these are not a ResNet backbone's parameters: top level has {', '.join(sorted(params)) or 'nothing'}"
        )
    state: dict[str, np.ndarray] = {}
    for theirs, ours, convolution in _layers(*depth):
        if convolution:
            state[f"{theirs}.weight"] = np.ascontiguousarray(_leaf(params, (*ours, "kernel")).transpose(3, 2, 0, 1))
            continue
        for leaf, tree, own in _BATCH_NORM:
            state[f"{theirs}.{leaf}"] = _leaf(params if tree == "params" else stats, (*ours, own))
        state[f"{theirs}.num_batches_tracked"] = np.zeros((), np.int64)
    return state


def from_torchvision(state_dict: Mapping[str, ArrayLike]) -> tuple[NumpyTree, NumpyTree]:
    """A backbone's (params, stats) as numpy arrays from a torchvision ResNet's state dict; dtypes kept.

    Depth and kind of the blocks are read off the keys; `fc.*` and `num_batches_tracked` are passed over. Values are
    anything `np.asarray` takes, CPU tensors of PyTorch too. UserError names the keys that are missing or unexpected, or
    whose shape does not go with its neighbours.
    """
    given = {key for key in state_dict if not key.startswith("fc.") and not key.endswith(".num_batches_tracked")}
    # whichever depth needs the fewest corrections is the one that was meant, so that a cut-off checkpoint is named as such
    depth = min(_DEPTHS, key=lambda d: len(_required_keys(d) ^ given))
    required = _required_keys(depth)
    if required != given:
        raise UserError(
            f"from_torchvision: not a ResNet's state dict{_listing('missing', required - given)}{_listing('unexpected', given - required)}"
        )
    params: NumpyTree = {}
    stats: NumpyTree = {}
    channels = 0
    for theirs, ours, convolution in _layers(*depth):
        if convolution:
            kernel = np.asarray(state_dict[f"{theirs}.weight"])
            if kernel.ndim != 4:
                raise UserError(f"from_torchvision: {theirs}.weight has shape {kernel.shape}, a convolution's has 4 axes")
            channels = kernel.shape[0]
            _put(params, (*ours, "kernel"), np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)))
            continue
        for leaf, tree, own in _BATCH_NORM:
            value = np.array(state_dict[f"{theirs}.{leaf}"])
            if value.shape != (channels,):
                raise UserError(
                    f"from_torchvision: {theirs}.{leaf} has shape {value.shape}, the convolution before it gives {channels} channels"
                )
            _put(params if tree == "params" else stats, (*ours, own), value)
    return params, stats


def _listing(what: str, keys: set[str]) -> str:
    return f"; {what}: {first_few(sorted(keys), 6)}" if keys else ""


def _leaf(tree: TreeLike, path: tuple[str, ...]) -> np.ndarray:
    node: Any = tree
    for name in path:
        if not isinstance(node, Mapping) or name not in node:
            raise UserError(f"to_torchvision: the backbone's tree has no {'/'.join(path)}")
        node = node[name]
    return np.array(node)


def _put(tree: NumpyTree, path: tuple[str, ...], value: np.ndarray) -> None:
    node = tree
    for name in path[:-1]:
        node = node.setdefault(name, {})
    node[path[-1]] = value
