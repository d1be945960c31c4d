"""JigClu's options beside the paper: what they add to its loss, against a transcription in NumPy, and what excludes them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming
from tiny_backbone import initialised, tiny_backbone

from jigclu_jax.config import pretrain_config
from jigclu_jax.methods import DataFacts, Tree, jigclu

FACTS = DataFacts(64, None, 4, 16)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    monkeypatch.setattr(jigclu, "build_backbone", lambda model: tiny_backbone(model.dtype, blocks=1))
    found = pretrain_config()
    found.batch_size, found.data.image_size, found.method.embedding_dim = 4, 32, 8
    return found


def batch() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    order = rng.permutation(16).reshape(4, 2, 2).astype(np.int32)
    image = jnp.asarray(rng.integers(0, 255, (4, 32, 32, 3), np.uint8))
    cluster, location = (jnp.asarray(grid) for grid in (order // 4, order % 4))
    return {"example": jnp.arange(4), "montage": {"image": image, "cluster": cluster, "location": location}}


def losses(config: ConfigDict) -> tuple[jigclu.JigClu, Tree, Tree, Tree]:
    """The method, parameters, outputs and metrics of one batch."""
    method, own = jigclu.create(config, FACTS), batch()
    params, stats, extra = initialised(method, FACTS)
    outputs, _, _ = method.forward(params, stats, extra, own)
    _, (_, metrics) = method.objective(params, outputs, extra, own)
    assert metrics.keys() == {spec.name for spec in method.metrics}
    return method, params, outputs, metrics


def test_a_centroid_is_the_mean_of_the_images_other_patches(config: ConfigDict) -> None:
    _, plain, _, without = losses(config)
    config.method.centroid_weight = 0.5
    _, params, outputs, metrics = losses(config)
    for name in plain:
        jax.tree.map(np.testing.assert_array_equal, plain[name], params[name])  # nothing else is drawn otherwise
    z, q = (np.asarray(outputs[name], np.float64).reshape(16, 8) for name in ("embeddings", "predictions"))
    clusters = np.asarray(batch()["montage"]["cluster"]).reshape(-1)
    total = 0.0
    for i in range(16):
        centroid = np.mean([z[j] for j in range(16) if j != i and clusters[j] == clusters[i]], axis=0)
        total -= q[i] @ centroid / np.linalg.norm(q[i]) / np.linalg.norm(centroid) / 16
    assert float(metrics["loss_centroid"]) == pytest.approx(total, rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(float(without["loss"]) + 0.5 * total, rel=1e-5)


def test_a_decoupled_denominator_makes_the_loss_smaller(config: ConfigDict) -> None:
    coupled = losses(config)[3]
    config.method.decoupled = True
    method, _, _, metrics = losses(config)
    assert float(metrics["loss_cluster"]) < float(coupled["loss_cluster"])
    (spec,) = (spec for spec in method.metrics if spec.name == "loss_cluster")
    assert spec.chance == pytest.approx(0.3 / 0.07 * np.log(12))
    with raises_naming("config.method.decoupled"):
        jigclu.create(config, DataFacts(64, None, 1, 64))
