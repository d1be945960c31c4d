"""Every file of methods/: one device against eight, and a run that goes on from a checkpoint, with a backbone of three blocks."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jobs.tiny import NO_COLOURS
from ml_collections import ConfigDict
from tiny_backbone import tiny_backbone

from jigclu_jax.config import pretrain_config
from jigclu_jax.config.jobs import method_names
from jigclu_jax.device.mesh import create_mesh, replicated, to_device
from jigclu_jax.evals import features
from jigclu_jax.jobs import pretrain
from jigclu_jax.methods import DataFacts, batch_shapes, create_method
from jigclu_jax.train.checkpoint import Checkpoints, read_checkpoint
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state, create_state
from jigclu_jax.train.step import Update, compile_step
from jigclu_jax.train.writers import read_metrics

METHODS = sorted({*method_names()} - {"linear"})  # `linear` is the probe's
IMAGES, BATCH = 96, 16
FACTS = DataFacts(IMAGES, tuple("abcde"), BATCH, IMAGES // BATCH)
# settings of `config.method` that make a method small, or fit 96 images in batches of 16
SMALL: dict[str, dict[str, Any]] = {
    "instdisc": {"embedding_dim": 16, "negatives": 32},
    "jigclu": {"embedding_dim": 16, "decoupled": True, "centroid_weight": 0.5},
    "jigpuz": {"permutations": 20, "tower_dim": 16},
    "pirl": {"embedding_dim": 16, "negatives": 32, "tile_size": 8},
    "byol": {"hidden_dim": 32, "embedding_dim": 16, "second_blur": 0.0, "second_solarize": 0.0},
    "moco": {"queue": 48, "embedding_dim": 16, "bn_groups": 4},
    "deepcluster": {"clusters": 8, "pca_dim": 4},
    "sela": {"clusters": 8, "heads": 3},
    "simclr": {"hidden_dim": 32, "embedding_dim": 16},
    "simsiam": {"views": 3, "embedding_dim": 16, "predictor_dim": 8},
}


@pytest.fixture(params=METHODS)
def config(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    module = importlib.import_module(f"jigclu_jax.methods.{request.param}")
    monkeypatch.setattr(module, "build_backbone", lambda model: tiny_backbone(model.dtype, blocks=1))
    monkeypatch.setattr(pretrain, "export_last", lambda *what: None)  # three blocks are no ResNet of any format
    for place in (module, features):  # `before_epoch` may ask for features
        monkeypatch.setattr(place, "build_backbone", lambda model: tiny_backbone(model["dtype"], blocks=1))
    found = pretrain_config(request.param)
    found.update({"epochs": 2, "batch_size": BATCH, "log_every_steps": 1})
    found.method.update(SMALL.get(request.param, {}))
    found.model.update({"arch": "resnet18", "stem": "small", "width": 0.05})
    found.data.update({"source": "embedded", "limit": IMAGES, "image_size": 32, "min_side": 1, "augment": "device"})
    found.optimizer.learning_rate = 0.03
    found.log.update({"tensorboard": False, "pictures": False})
    found.augment.update(NO_COLOURS)
    return found


def random_batch(method: Any, step: int) -> dict[str, Any]:
    """Random pixels, and what a batch says of its images."""
    rng = np.random.default_rng(step)
    batch = jax.tree.map(lambda leaf: rng.integers(0, 255, leaf.shape).astype(leaf.dtype), batch_shapes(method, FACTS))
    batch |= {"example": rng.permutation(IMAGES)[:BATCH].astype(np.int32), "epoch": np.zeros(BATCH, np.int32), "mask": np.ones(BATCH, bool)}
    if "label" in batch:
        batch["label"] %= FACTS.class_count
    for view in method.views:
        if view.montage:
            own, regions = batch[view.name], view.grid**2
            order = rng.permutation(own["cluster"].size).reshape(own["cluster"].shape).astype(np.int32)
            own |= {"cluster": order // regions, "position": order % regions, "location": order % regions}
    return batch


@pytest.mark.slow
@pytest.mark.devices8
def test_eight_devices_compute_what_one_does(config: ConfigDict, float64: None) -> None:
    config.model.dtype = "float64"
    method, optimizer = create_method(config, FACTS), create_optimizer(config.optimizer)
    target = abstract_state(method, FACTS, optimizer, create_mesh(jax.devices()[:1]))
    start = jax.device_get(create_state(method, FACTS, optimizer, 0, target))
    results = []
    for devices in (1, 8):
        mesh = create_mesh(jax.devices()[:devices])
        state = jax.device_put(start, replicated(mesh))
        step = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 6, 2), 6), mesh)
        for number in range(2):
            state, metrics = step(state, to_device(random_batch(method, number), mesh))
        results.append(jax.device_get((state.params, state.stats, state.extra, metrics)))
    for one, eight in zip(*map(jax.tree.leaves, results), strict=True):
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, eight = jax.random.key_data(one), jax.random.key_data(eight)
        assert np.abs(one - eight).max(initial=0) <= 1e-6 * max(np.abs(one).max(initial=0), 1e-12)


@pytest.mark.slow
def test_a_run_that_goes_on_ends_with_the_same_bits(config: ConfigDict, tmp_path: Path) -> None:
    """From a checkpoint in the middle of the first epoch; the stop itself is the same for all methods: test_contract.py."""
    config.saving.every_epochs = 0.5
    save = Checkpoints.save

    def copied(self: Checkpoints, step: int, *arguments: Any) -> None:
        save(self, step, *arguments)
        if step == 3:
            self.wait()
            shutil.copytree(tmp_path / "straight", tmp_path / "cut")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", copied)
        pretrain.run(config, tmp_path / "straight")
    assert read_checkpoint(tmp_path / "cut")[0] == 3
    pretrain.run(config, tmp_path / "cut")
    jax.tree.map(np.testing.assert_array_equal, *(read_checkpoint(tmp_path / name)[2] for name in ("straight", "cut")))
    straight, cut = ([row["loss"] for row in read_metrics(tmp_path / name)] for name in ("straight", "cut"))
    assert straight == cut and len(straight) == 12
