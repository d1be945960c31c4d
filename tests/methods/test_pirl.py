"""PIRL: both of its losses are against the images' rows of one bank, which follows the images alone; tiles are shuffled anew each epoch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import about, compiled, initialised, tiny_backbone

from jigclu_jax.config import pretrain_config
from jigclu_jax.losses.memory_bank import bank_scores, log_partition, moved_bank, nce_loss
from jigclu_jax.methods import DataFacts
from jigclu_jax.methods.pirl import PIRL, create
from jigclu_jax.models import create_linear
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.unit_length import unit_length

BATCH, IMAGES = 5, 40
FACTS = DataFacts(IMAGES, None, BATCH, 8)


def method(**own: Any) -> PIRL:
    config = pretrain_config("pirl")
    config.data.image_size = 16
    config.model.update({"arch": "resnet18", "width": 0.05})
    config.method.update({"embedding_dim": 8, "negatives": 20, "tile_size": 8, **own})
    found, backbone = create(config, FACTS), compiled(tiny_backbone(blocks=1))
    return dataclasses.replace(
        found, backbone=backbone, image_head=create_linear(backbone.dim, 8), tile_head=create_linear(backbone.dim, 8)
    )


def batch(epoch: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    views = {"image": (BATCH, 1, 16, 16, 3), "tiles": (BATCH, 9, 8, 8, 3)}
    pictures = {name: {"image": rng.integers(0, 256, shape).astype(np.uint8)} for name, shape in views.items()}
    given = about(BATCH) | {"example": np.array([39, 4, 11, 0, 20], np.int32), "epoch": np.full(BATCH, epoch, np.int32)} | pictures
    return jax.tree.map(jnp.asarray, given)


def order_of(found: PIRL, given: dict[str, Any]) -> np.ndarray:
    """Numbers of each image's tiles in the order that its towers get."""
    numbered = np.broadcast_to(np.arange(9, dtype=np.uint8).reshape(1, 9, 1, 1, 1), (BATCH, 9, 1, 1, 3))
    return np.asarray(found.shuffled(jnp.asarray(numbered), given))[:, :, 0, 0, 0]


def test_the_views_are_an_image_and_tiles_with_gaps_of_a_part_of_it() -> None:
    config = pretrain_config("pirl")
    image, tiles = create(config, FACTS).views
    assert (image.name, image.side, image.crops, image.law.crop_area) == ("image", 224, 1, (0.08, 1.0))
    assert (tiles.name, tiles.side, tiles.crops, tiles.law.crop_area) == ("tiles", 64, 9, (0.75**2, 0.75**2))
    assert tiles.frame and tiles.frame.crop_area == (0.6, 1.0) and not tiles.frame.flip_probability
    assert tiles.law.hue == image.law.hue == 0.2, "each tile has colours of its own"
    tiles.check()


def test_both_projections_are_those_of_their_own_heads() -> None:
    found = method()
    params, stats, extra = initialised(found, FACTS)
    given = batch()
    outputs, _, _ = jax.jit(found.forward, static_argnames="train")(params, stats, extra, given, train=False)
    order = order_of(found, given)
    assert (np.sort(order, axis=1) == np.arange(9)).all()

    def vectors(pictures: np.ndarray) -> jax.Array:
        return found.backbone.apply(params["backbone"], stats["backbone"], normalize(jnp.asarray(pictures)), False)[0].features

    for row in range(BATCH):
        tiles = vectors(np.asarray(given["tiles"]["image"])[row][order[row]])
        joined = found.join_head.apply(
            params["join_head"], {}, found.tile_head.apply(params["tile_head"], {}, tiles, False)[0].reshape(1, -1), False
        )
        np.testing.assert_allclose(outputs["tiles"][row], unit_length(joined[0])[0], rtol=1e-4, atol=1e-5)
    features = vectors(np.asarray(given["image"]["image"])[:, 0])
    np.testing.assert_allclose(outputs["features"][:, 0], features, rtol=1e-4, atol=1e-5)
    own, _ = found.image_head.apply(params["image_head"], {}, features, False)
    np.testing.assert_allclose(outputs["image"], unit_length(own), rtol=1e-4, atol=1e-5)


def test_the_loss_weighs_tiles_and_image_and_the_bank_follows_the_image() -> None:
    found = method(tile_weight=0.3)
    params, stats, extra = initialised(found, FACTS)
    outputs, _, _ = jax.jit(found.forward, static_argnames="train")(params, stats, extra, batch())
    loss, (after, metrics) = found.objective(params, outputs, extra, batch())
    example, drawn = batch()["example"], found.bank.drawn(batch())
    scores = {name: bank_scores(outputs[name], extra["bank"], example, drawn, 0.07) for name in ("tiles", "image")}
    log_z = log_partition(scores["tiles"], IMAGES)
    parts = {name: float(nce_loss(each, log_z, IMAGES)) for name, each in scores.items()}
    assert float(loss) == pytest.approx(0.3 * parts["tiles"] + 0.7 * parts["image"], rel=1e-5)
    assert {name: float(metrics[f"loss_{name}"]) for name in parts} == pytest.approx(parts, rel=1e-5)
    np.testing.assert_allclose(after["bank"], moved_bank(extra["bank"], example, outputs["image"], 0.5), rtol=1e-6)
    assert float(after["log_z"]) == pytest.approx(float(log_z))


def test_the_order_of_tiles_follows_from_epoch_and_image() -> None:
    found = method()
    first, again, later = (order_of(found, batch(epoch)) for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != later).any(axis=1).all() and len(np.unique(first, axis=0)) == BATCH
