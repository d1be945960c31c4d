"""A pretraining run and a probe small enough for a test: 96 embedded pictures, a backbone of a few channels."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# TensorFlow compiles the colours of each size of picture for two seconds, and builds their pipeline twice as long
NO_COLOURS = {"jitter_probability": 0.0, "grayscale_probability": 0.0, "blur_probability": 0.0}


def pretrain_config(epochs: int = 2, method: str = "jigclu", *, colours: bool = False, place: str = "host") -> ConfigDict:
    """6 steps an epoch of 16 montages of crops, in their own colours if not asked for others."""
    config = load_config(str(CONFIGS / "pretrain_cifar10.py"), f"arch=resnet10,width=0.05,epochs={epochs},batch_size=16,method={method}")
    config.data.update({"source": "embedded", "name": "", "limit": 96, "image_size": 32, "augment": place})
    config.log_every_steps = 1
    config.log.tensorboard = False
    config.log.pictures = False
    if not colours:
        config.augment.update(NO_COLOURS)
    return config


def features_config(job: str, checkpoint: str) -> ConfigDict:
    """Evaluation on features: the pictures of `pretrain_config` against 40 others."""
    config = load_config(str(CONFIGS / f"{job}.py"))
    config.checkpoint = checkpoint
    config.data.update({"source": "embedded", "name": "", "limit": 96})
    config.eval_data.update({"split": "validation", "limit": 40})
    config.eval_batch_size = 32
    if "probe" in config:
        config.probe.epochs, config.probe.batch_size = 5, 32
    if "knn" in config:
        config.knn.neighbours = (5, 20)
    return config


def probe_config(checkpoint: str, epochs: int = 2, *, place: str = "host") -> ConfigDict:
    """6 steps an epoch, evaluated on 40 pictures after each."""
    config = load_config(str(CONFIGS / "probe_cifar10.py"), f"learning_rate=0.1,epochs={epochs},batch_size=16")
    config.checkpoint = checkpoint
    config.data.update({"source": "embedded", "name": "", "limit": 96, "augment": place})
    config.eval_data.update({"split": "validation", "limit": 40})
    config.eval_batch_size = 32
    config.eval_every_epochs = 1
    config.log.tensorboard = False
    config.log.pictures = False
    return config


def finetune_config(checkpoint: str = "", epochs: int = 2, **changes: Any) -> ConfigDict:
    """6 steps an epoch, evaluated on 40 pictures after each; no search."""
    config = load_config(str(CONFIGS / "finetune.py"), f"small,epochs={epochs},batch_size=16")
    config.checkpoint = checkpoint
    config.optimizer.update({"learning_rate": 0.02, "warmup_epochs": 0.0})
    config.search.update({"learning_rates": (), "weight_decays": ()})
    config.data.update({"source": "embedded", "name": "", "split": "train", "limit": 96})
    config.eval_data.update({"split": "validation", "limit": 40})
    config.eval_batch_size = 32
    config.log.tensorboard = False
    config.update(changes)
    return config
