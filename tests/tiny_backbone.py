"""A backbone of three residual blocks for tests that compile a step many times: a ResNet takes XLA the better part of a minute."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jigclu_jax.config import pretrain_config
from jigclu_jax.device.feed import Feed
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.models import Functional, create_classifier, create_linear, create_mlp, create_projection
from jigclu_jax.models.architectures import Architecture
from jigclu_jax.models.functional import Draw, compute_dtype, functional
from jigclu_jax.models.layers import BatchNorm, Conv
from jigclu_jax.models.resnet import Stage, Stages, stages_of
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import TrainState, abstract_state, create_state, init_state
from jigclu_jax.train.step import Update, compile_step, train_step

CHANNELS = 8


class TinyBackbone(nnx.Module):
    """A 3x3 convolution and one stage of basic blocks, which halves the map."""

    def __init__(self, blocks: int, remat: bool, dtype: jnp.dtype, draw: Draw) -> None:
        arch = Architecture(bottleneck=False, blocks=(0, blocks, 0, 0))
        self.conv1 = Conv(3, CHANNELS, 3, dtype=dtype, draw=draw)
        self.bn1 = BatchNorm(CHANNELS, dtype=dtype)
        self.layer1 = Stage(arch, 1, CHANNELS, CHANNELS / 128, remat=remat, dtype=dtype, draw=draw)

    def __call__(self, x: jax.Array, train: bool) -> Stages:
        return stages_of([self.layer1(jax.nn.relu(self.bn1(self.conv1(x), train)), train)])


def tiny_backbone(dtype: str = "float32", *, blocks: int = 2, remat: bool = False) -> Functional:
    """Images [b, h, w, 3] -> one map [b, h / 2, w / 2, 8] and its features."""
    compute = compute_dtype(dtype)
    return functional(lambda draw: TinyBackbone(blocks, remat, compute, draw), dim=CHANNELS, dtype=compute)


def compiled(network: Functional) -> Functional:
    """The network as two compiled calls, for tests that call it outside of any jit: there each operation is compiled by itself."""
    return dataclasses.replace(network, init=jax.jit(network.init), apply=jax.jit(network.apply, static_argnames=("train", "groups")))


def tiny_method(config: ConfigDict, classes: int = 5, *, blocks: int = 2) -> Any:
    """`create_method` with the tiny backbone."""
    config = config.copy_and_resolve_references()
    config.model.update({"arch": "resnet18", "width": 0.05})
    method = create_method(config, tiny_facts(config, classes))
    backbone = tiny_backbone(config.model.dtype, blocks=blocks, remat=config.model.remat)
    dtype = "float64" if config.model.dtype == "float64" else "float32"
    if config.method.name == "jigclu":
        heads = {"projection": create_projection(backbone.dim, 16, dtype=dtype), "location": create_linear(backbone.dim, 4, dtype=dtype)}
    else:
        heads = {"classifier": create_classifier(backbone.dim, classes, dtype=dtype)}
    return dataclasses.replace(method, backbone=backbone, **heads)


def initialised(method: Any, facts: DataFacts) -> Any:
    """Parameters, statistics and extra of seed 0; compiled, which takes a fraction of the time of one operation after another."""
    return jax.jit(method.init, static_argnums=1)(jax.random.key(0), facts)


def tiny_facts(config: ConfigDict, classes: int = 5) -> DataFacts:
    """Of a data set of ten batches."""
    return DataFacts(10 * config.batch_size, tuple(map(str, range(classes))) or None, config.batch_size, 10)


def tiny_batch(size: int, seed: int = 0, side: int = 16) -> dict[str, Any]:
    """Montages of random pixels."""
    rng = np.random.default_rng(seed)
    return montage_batch(rng.integers(0, 255, (size, side, side, 3)), rng.permutation(4 * size))


def montage_batch(image: np.ndarray, order: np.ndarray) -> dict[str, Any]:
    """A batch of montages of 2 x 2, whose cells hold the patches numbered by `order`: image * 4 + location."""
    size = len(image)
    grids = {"cluster": order // 4, "location": order % 4}
    montages = {"image": image.astype(np.uint8)} | {name: grid.reshape(size, 2, 2).astype(np.int32) for name, grid in grids.items()}
    return about(size) | {"montage": montages}


def crop_batch(image: np.ndarray, label: np.ndarray, mask: np.ndarray | None = None) -> dict[str, Any]:
    """A batch of one crop an image, with labels."""
    batch = about(len(image)) | {"label": label.astype(np.int32), "crop": {"image": image.astype(np.uint8)[:, None]}}
    return batch if mask is None else batch | {"mask": mask}


def about(size: int) -> dict[str, Any]:
    """What every batch says of its images."""
    return {"example": np.arange(size, dtype=np.int32), "epoch": np.zeros(size, np.int32), "mask": np.ones(size, bool)}


def flat_backbone(side: int) -> Functional:
    """Images [b, side, side, 3] -> features [b, 8] by two linear layers with BatchNorm: compiles in no time."""
    mlp = create_mlp((3 * side * side, CHANNELS, CHANNELS), norm_last=True)

    def apply(params: Any, stats: Any, x: jax.Array, train: bool, key: Any = None, groups: int = 1) -> tuple[Stages, Any]:
        y, after = mlp.apply(params, stats, x.reshape(len(x), -1), train, key, groups)
        return Stages((), y), after

    return compiled(Functional(mlp.init, apply, CHANNELS))


def tiny_step(
    config: ConfigDict | None = None, *, blocks: int = 1, accumulate: int = 1, feed: Feed | None = None
) -> tuple[TrainState, Any]:
    """State at step 0 and compiled step of a pretraining config, on one device, as `train/run.py` makes them."""
    config = pretrain_config() if config is None else config
    method, optimizer = tiny_method(config, blocks=blocks), create_optimizer(config.optimizer)
    mesh = create_mesh(jax.devices()[:1])
    facts = tiny_facts(config)
    target = abstract_state(method, facts, optimizer, mesh, ema=config.ema_decay > 0)
    update = Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, config.ema_decay, accumulate)
    return create_state(method, facts, optimizer, 0, target), compile_step(method, update, mesh, feed, target)


def step_memory(*, batch: int, accumulate: int) -> int:
    """Bytes of temporaries of a compiled step whose micro-batches run in a loop."""
    config = pretrain_config()
    method, optimizer = tiny_method(config, blocks=1), create_optimizer(config.optimizer)
    update = Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, accumulate=accumulate)
    state = jax.eval_shape(lambda: init_state(method, tiny_facts(config), optimizer, jax.random.key(0)))
    step = jax.jit(lambda state, batch: train_step(method, update, state, batch, unroll=False))
    return step.lower(state, tiny_batch(batch, side=32)).compile().memory_analysis().temp_size_in_bytes
