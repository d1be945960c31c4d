"""Rotation: what it sees, which answer is right, and what it measures."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import about, compiled, initialised, tiny_backbone

from jigclu_jax.config import pretrain_config
from jigclu_jax.methods import DataFacts
from jigclu_jax.methods.rotation import Rotation, create, turns
from jigclu_jax.models import create_linear
from jigclu_jax.ops.normalize import normalize

BATCH = 6
FACTS = DataFacts(60, None, BATCH, 10)


def method() -> Rotation:
    config = pretrain_config("rotation")
    config.model.update({"arch": "resnet18", "width": 0.05})
    config.data.image_size = 8
    found = create(config, FACTS)
    backbone = compiled(tiny_backbone())
    return dataclasses.replace(found, backbone=backbone, head=create_linear(backbone.dim, 4))


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (BATCH, 8, 8, 3)).astype(np.uint8)


def batch() -> dict[str, Any]:
    return about(BATCH) | {"crop": {"image": jnp.asarray(images()[:, None])}}


def turned(image: np.ndarray, degrees: int) -> np.ndarray:
    """By the authors' table of transpositions and mirrorings."""
    upside_down = image[::-1]
    return {0: image, 90: image.transpose(1, 0, 2)[::-1], 180: upside_down[:, ::-1], 270: upside_down.transpose(1, 0, 2)}[degrees]


def test_turns_are_exact_and_counter_clockwise() -> None:
    found = np.asarray(turns(jnp.asarray(images())))
    assert found.dtype == np.uint8 and found.shape == (BATCH, 4, 8, 8, 3)
    for number, image in enumerate(images()):
        for turn in range(4):
            np.testing.assert_array_equal(found[number, turn], turned(image, 90 * turn))
    np.testing.assert_array_equal(turns(jnp.asarray(found[:, 3]))[:, 1], found[:, 0], "a turn more is the whole circle")


def test_logits_are_those_of_the_turned_pictures_in_their_order() -> None:
    """BatchNorm in eval mode: each row is what the picture alone would give, and label 1 is a quarter turn counter-clockwise."""
    found = method()
    params, stats, extra = initialised(found, FACTS)
    outputs, _, _ = jax.jit(found.forward, static_argnames="train")(params, stats, extra, batch(), train=False)
    for turn in range(4):
        x = normalize(jnp.asarray(np.stack([turned(image, 90 * turn) for image in images()])))
        stages, _ = found.backbone.apply(params["backbone"], stats["backbone"], x, False)
        logits, _ = found.head.apply(params["head"], {}, stages.features, False)
        np.testing.assert_allclose(outputs["logits"][:, turn], logits, rtol=1e-4, atol=1e-5)
        if turn == 0:
            np.testing.assert_allclose(outputs["features"][:, 0], stages.features, rtol=1e-4, atol=1e-5)
    assert outputs["features"].shape[:2] == found.images(batch()).shape == (BATCH, 1), "the online head looks at upright pictures"


def test_batch_norm_sees_all_turns_at_once() -> None:
    found = method()
    params, stats, extra = initialised(found, FACTS)
    _, after, _ = jax.jit(found.forward, static_argnames="train")(params, stats, extra, batch())
    every = normalize(jnp.asarray(np.concatenate([turned(image, 90 * turn)[None] for image in images() for turn in range(4)])))
    _, expected = found.backbone.apply(params["backbone"], stats["backbone"], every, True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after["backbone"], expected)


def test_loss_and_accuracy_have_closed_forms() -> None:
    found = method()
    told, alike = (np.broadcast_to(logits, (BATCH, 4, 4)) for logits in (np.eye(4, dtype=np.float32) * 5, np.zeros((4, 4), np.float32)))
    for logits, loss, right in ((told, math.log(1 + 3 * math.exp(-5)), 1.0), (alike, math.log(4), 0.0), (told[:, ::-1], None, 0.0)):
        value, (_, metrics) = found.objective({}, {"logits": jnp.asarray(logits)}, {}, batch())
        assert loss is None or float(value) == pytest.approx(loss, rel=1e-5)
        assert float(metrics["accuracy_rotation"]) == right and float(metrics["loss"]) == float(value)
    spec = {spec.name: spec for spec in found.metrics}
    assert spec["accuracy_rotation"].chance == 0.25 and spec["loss"].chance == pytest.approx(math.log(4))
    assert float(found.weight(batch())) == BATCH
