"""Workdirs with a checkpoint, made without training: the arrays are random numbers, everything else is as a job leaves it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jigclu_jax.config import pretrain_config, probe_config
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.train.checkpoint import Checkpoints
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.state import TrainState, init_state
from jigclu_jax.train.workdir import config_as_dict


def tiny_config(job: str = "pretrain", **model: Any) -> ConfigDict:
    """ResNet-18 with the small stem, three channels in its first stage."""
    config = pretrain_config() if job == "pretrain" else probe_config()
    config.model.update({"arch": "resnet10", "stem": "small", "width": 0.05} | model)
    config.batch_size, config.epochs = 8, 1
    config.data.source, config.data.image_size, config.data.split = "arrays", 32, ""
    return config


def make_workdir(folder: Path, config: ConfigDict | None = None, *, classes: tuple[str, ...] = (), images: int = 40) -> Path:
    """`folder` with config.json and a checkpoint of step 5."""
    config = tiny_config() if config is None else config
    facts, ema = DataFacts(images, classes or None, config.batch_size, images // config.batch_size), config.get("ema_decay", 0.0) > 0
    method = create_method(config, facts)
    shapes = jax.eval_shape(lambda: init_state(method, facts, create_optimizer(config.optimizer), jax.random.key(0), ema=ema))
    generator = np.random.default_rng(0)

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        # positive, so that it may stand for a variance
        values = generator.uniform(0.01, 0.2, leaf.shape) if np.issubdtype(leaf.dtype, np.floating) else np.full(leaf.shape, 5)
        return jax.numpy.asarray(values, leaf.dtype)

    state: TrainState = jax.tree.map(fill, shapes)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_as_dict(config)))
    checkpoints = Checkpoints(folder)
    meta = {"config": config_as_dict(config), "classes": list(classes) or None, "images": images, "seconds": 1.0, "epoch_metrics": {}}
    checkpoints.save(5, state, meta)
    checkpoints.close()
    return folder
