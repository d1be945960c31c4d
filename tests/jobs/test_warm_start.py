"""Pretraining from given weights: they stand wherever the backbone does, and another backbone's are refused."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jobs import tiny
from named_errors import raises_naming
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax import load_encoder
from jigclu_jax.interop import to_torchvision
from jigclu_jax.jobs import pretrain
from jigclu_jax.jobs.backbones import starting_backbone, with_backbone
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.state import init_state
from jigclu_jax.train.workdir import read_result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("warm") / "run")


@pytest.mark.parametrize("kind", ["workdir", "file"])
def test_every_copy_of_the_backbone_starts_from_the_weights(run: Path, tmp_path: Path, kind: str) -> None:
    config, encoder = tiny_config(), load_encoder(run)
    config.init.weights = str(run)
    if kind == "file":
        np.savez(tmp_path / "weights.npz", **to_torchvision(encoder.params, encoder.stats))
        config.init.weights = str(tmp_path / "weights.npz")
    facts = DataFacts(40, None, config.batch_size, 5)
    state = init_state(create_method(config, facts), facts, create_optimizer(config.optimizer), jax.random.key(7), ema=True)
    momentum = {"params": state.params, "stats": {"backbone": state.stats["backbone"]}, "queue": np.zeros(3)}
    backbone = starting_backbone(config)
    assert backbone is not None
    found = with_backbone(dataclasses.replace(state, extra={"momentum": momentum}), backbone)
    for params, stats in (
        (found.params, found.stats),
        (found.ema["params"], found.ema["stats"]),
        (found.extra["momentum"]["params"], found.extra["momentum"]["stats"]),
    ):
        jax.tree.map(np.testing.assert_array_equal, (params["backbone"], stats["backbone"]), (encoder.params, encoder.stats))
        heads: Any = {name: node for name, node in params.items() if name != "backbone"}
        jax.tree.map(np.testing.assert_array_equal, heads, {name: state.params[name] for name in heads})
    assert found.extra["momentum"]["queue"] is momentum["queue"]


def test_another_backbone_is_refused(run: Path) -> None:
    config = tiny_config(width=0.25)
    config.init.weights = str(run)
    with raises_naming("config.init.weights", "config.model.width"):
        starting_backbone(config)
    assert starting_backbone(tiny_config()) is None


@pytest.mark.slow
def test_a_run_that_stands_still_keeps_its_weights(tmp_path: Path) -> None:
    config = tiny.pretrain_config(epochs=1)
    make_workdir(tmp_path / "first", config)
    warm = config.copy_and_resolve_references()
    warm.seed, warm.optimizer.learning_rate, warm.init.weights = 5, 0.0, str(tmp_path / "first")
    pretrain.run(warm, tmp_path / "second")
    first, second = load_encoder(tmp_path / "first"), load_encoder(tmp_path / "second")
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    result = read_result(tmp_path / "second")
    assert result is not None and "first" in result["init"]["origin"]
    exported = load_encoder(tmp_path / "second" / "exported_last" / "torchvision.safetensors")
    jax.tree.map(np.testing.assert_array_equal, second.params, exported.params)
    warm.init.weights = ""
    with raises_naming("config", "init.weights"):
        pretrain.run(warm, tmp_path / "second")
