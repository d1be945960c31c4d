"""SimCLR: what it sees, its loss on its own outputs, its recipes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny
from ml_collections import ConfigDict
from tiny_backbone import about, compiled, initialised

from jigclu_jax.config import load_config
from jigclu_jax.losses.nt_xent import nt_xent
from jigclu_jax.methods import DataFacts, create_method

BATCH = 16
FACTS = DataFacts(96, None, BATCH, 6)


def config(**model: Any) -> ConfigDict:
    found = load_config(tiny.CONFIGS / "pretrain_simclr.py", f"preset=cifar10,width=0.05,batch_size={BATCH},epochs=2")
    found.data.update({"source": "embedded", "name": "", "limit": 96})
    found.method.update({"hidden_dim": 32, "embedding_dim": 16})
    found.optimizer.update({"name": "sgd", "learning_rate": 0.05, "warmup_epochs": 0.0})
    found.log_every_steps = 1
    found.log.update({"tensorboard": False, "pictures": False})
    found.model.update(model)
    return found


def batch(seed: int = 0) -> dict[str, Any]:
    crops = np.random.default_rng(seed).integers(0, 255, (BATCH, 2, 32, 32, 3)).astype(np.uint8)
    return about(BATCH) | {"crops": {"image": crops}}


def test_the_loss_is_that_of_the_embeddings_and_both_crops_share_batch_norm() -> None:
    method = create_method(config(), FACTS)
    params, stats, extra = initialised(method, FACTS)
    outputs, after, _ = jax.jit(method.forward)(params, stats, extra, batch())
    embeddings = outputs["embeddings"]
    assert embeddings.shape == (BATCH, 2, 16) and outputs["features"].shape == (BATCH, 2, method.backbone.dim)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, rtol=1e-5)
    loss, (_, metrics) = method.objective(params, outputs, extra, batch())
    assert float(loss) == pytest.approx(float(nt_xent(embeddings, 0.5))) == pytest.approx(float(metrics["loss"]))
    assert method.images(batch()).tolist() == [[row, row] for row in range(BATCH)]
    # one pass over both crops: the running mean of the first layer is that of all of them together
    flat = np.concatenate(batch()["crops"]["image"])
    _, other = compiled(method.backbone).apply(params["backbone"], stats["backbone"], normalised(flat), True)
    np.testing.assert_allclose(after["backbone"]["bn1"]["mean"], other["bn1"]["mean"], rtol=1e-4, atol=1e-6)


def normalised(images: np.ndarray) -> jax.Array:
    from jigclu_jax.ops.normalize import normalize

    return normalize(jnp.asarray(images))


@pytest.mark.parametrize("preset", ["imagenet", "cifar10", "folder"])
def test_the_recipes_are_the_papers(preset: str) -> None:
    found = load_config(tiny.CONFIGS / "pretrain_simclr.py", f"preset={preset}")
    assert found.augment.crop_area == (0.08, 1.0) and found.optimizer.name == "lars"
    if preset == "imagenet":
        assert (found.batch_size, found.optimizer.learning_rate, found.method.temperature) == (4096, 4.8, 0.1)
    if preset == "cifar10":
        assert (found.optimizer.learning_rate, found.method.temperature, found.augment.blur_probability) == (1.0, 0.5, 0.0)
    if preset == "folder":
        assert found.optimizer.learning_rate == pytest.approx(0.075 * 16), "the square root of a small batch"
