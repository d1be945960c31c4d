"""Moving averages out of a checkpoint: into an encoder, and refused where there are none."""

from pathlib import Path

import jax
import numpy as np
from named_errors import raises_naming
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax import load_encoder
from jigclu_jax.train.checkpoint import read_checkpoint, weights


def test_an_encoder_of_the_averages(tmp_path: Path) -> None:
    config = tiny_config()
    config.ema_decay = 0.9
    folder = make_workdir(tmp_path / "run", config)
    _, meta, tree = read_checkpoint(folder)
    trained, averaged = load_encoder(folder), load_encoder(folder, ema=True)
    for encoder, source in ((trained, tree), (averaged, tree["ema"])):
        jax.tree.map(np.testing.assert_array_equal, encoder.params, source["params"]["backbone"])
        jax.tree.map(np.testing.assert_array_equal, encoder.stats, source["stats"]["backbone"])
    image = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    assert np.abs(trained(image) - averaged(image)).max() > 1e-3
    with raises_naming("here", "'emma'", "'params'", "'ema'"):
        weights(tree, meta, "emma", "here")


def test_a_checkpoint_without_averages_is_named(tmp_path: Path) -> None:
    folder = make_workdir(tmp_path / "run")
    with raises_naming(str(folder), "config.ema_decay=0.0"):
        load_encoder(folder, ema=True)
