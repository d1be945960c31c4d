"""JigPuz: which tile stands where, which answer is right, what is in the checkpoint, and what is refused."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from named_errors import raises_naming
from tiny_backbone import about, compiled, initialised, tiny_backbone

from jigclu_jax.config import pretrain_config
from jigclu_jax.methods import DataFacts
from jigclu_jax.methods.jigpuz import JigPuz, create
from jigclu_jax.models import create_mlp
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.ops.permutations import permutation_set

BATCH, SIDE = 6, 8
FACTS = DataFacts(60, None, BATCH, 10)


def method(seed: int = 0, **own: Any) -> JigPuz:
    config = pretrain_config("jigpuz")
    config.seed, config.data.image_size = seed, 32
    config.model.update({"arch": "resnet18", "width": 0.05})
    config.method.update({"permutations": 30, "tower_dim": 4, **own})
    found, backbone = create(config, FACTS), compiled(tiny_backbone(blocks=1))
    return dataclasses.replace(found, backbone=backbone, tower=create_mlp((backbone.dim, 4), norm_last=True))


def batch(epoch: int = 0) -> dict[str, Any]:
    tiles = np.random.default_rng(0).integers(0, 256, (BATCH, 9, SIDE, SIDE, 3)).astype(np.uint8)
    return about(BATCH) | {"epoch": np.full(BATCH, epoch, np.int32), "tiles": {"image": tiles}}


def test_the_view_is_tiles_of_one_frame_with_gaps() -> None:
    config = pretrain_config("jigpuz")
    config.method.permutations = 30
    (view,) = create(config, FACTS).views
    assert (view.side, view.grid, view.crops, view.montage) == (64, 3, 9, 0), "64 of 85 pixels"
    assert view.law.crop_area == (0.75**2, 0.75**2)
    assert view.frame and (view.frame.flip_probability, view.frame.grayscale_probability) == (0.5, 0.66)
    assert (view.law.flip_probability, view.law.grayscale_probability) == (0, 0), "mirrored and made gray before it is cut, all tiles alike"
    view.check()


def test_tower_i_gets_tile_permutation_i_and_the_label_recovers_it() -> None:
    found = method()
    params, stats, extra = initialised(found, FACTS)
    label = np.asarray(found.permutation(batch()))
    outputs, _, _ = jax.jit(found.forward, static_argnames="train")(params, stats, extra, batch(), train=False)
    for image, tiles in enumerate(batch()["tiles"]["image"]):
        # BatchNorm in eval mode: each tile's vector is what the tile alone would give
        stages, _ = found.backbone.apply(params["backbone"], stats["backbone"], normalize(jnp.asarray(tiles)), False)
        order = [int(np.abs(np.asarray(stages.features) - row).sum(axis=1).argmin()) for row in np.asarray(outputs["features"][image])]
        assert order == permutation_set(30, 9, "max_avg", 0)[label[image]].tolist()
        towers, _ = found.tower.apply(params["tower"], stats["tower"], stages.features[jnp.asarray(order)], False)
        logits, _ = found.classifier.apply(params["classifier"], {}, jax.nn.relu(towers).reshape(1, -1), False)
        np.testing.assert_allclose(outputs["logits"][image], logits[0], rtol=1e-4, atol=1e-5)
    assert outputs["features"].shape[:2] == found.images(batch()).shape == (BATCH, 9)


def test_batch_norm_sees_the_tiles_of_all_images() -> None:
    found = method()
    params, stats, extra = initialised(found, FACTS)
    _, after, _ = jax.jit(found.forward, static_argnames="train")(params, stats, extra, batch())
    order = np.asarray(extra["permutations"])[np.asarray(found.permutation(batch()))]
    tiles = np.take_along_axis(batch()["tiles"]["image"], order[:, :, None, None, None], 1).reshape(-1, SIDE, SIDE, 3)
    stages, backbone = found.backbone.apply(params["backbone"], stats["backbone"], normalize(jnp.asarray(tiles)), True)
    _, tower = found.tower.apply(params["tower"], stats["tower"], stages.features, True)
    expected = {"backbone": backbone, "tower": tower}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after, expected)


def test_an_images_permutation_follows_from_seed_epoch_and_example() -> None:
    found = method(permutations=7)
    many = {"example": np.arange(7000, dtype=np.int32), "epoch": np.full(7000, 2, np.int32)}
    label = np.asarray(found.permutation(many))
    assert label.min() == 0 and label.max() == 6 and np.abs(np.bincount(label) - 1000).max() < 120, "uniform"
    alone = {name: values[4000:4001] for name, values in many.items()}
    assert found.permutation(alone)[0] == label[4000], "whatever stands beside it"
    for other in (found.permutation({**many, "epoch": many["epoch"] + 1}), method(seed=1, permutations=7).permutation(many)):
        assert abs((np.asarray(other) == label).mean() - 1 / 7) < 0.03


def test_the_set_is_that_of_the_checkpoint() -> None:
    """A state with other permutations is shuffled by them: the file that was trained with decides."""
    found = method()
    params, stats, extra = initialised(found, FACTS)
    assert extra["permutations"].tolist() == permutation_set(30, 9, "max_avg", 0).tolist()
    other = {"permutations": jnp.asarray(permutation_set(30, 9, "max_min", 3))}
    one, two = (
        jax.jit(found.forward, static_argnames="train")(params, stats, own, batch(), train=False)[0]["features"] for own in (extra, other)
    )
    assert not np.allclose(one, two)
    chosen = method(criterion="max_min", permutation_seed=3)
    assert jax.jit(chosen.init, static_argnums=1)(jax.random.key(1), FACTS)[2]["permutations"].tolist() == other["permutations"].tolist()


def test_tiles_are_normalised_by_themselves_where_asked() -> None:
    """Light and contrast of a tile then tell nothing of its neighbours; a tile of one colour stays finite."""
    tiles = batch()["tiles"]["image"][0].copy()
    tiles[4] = 7
    found = method(normalize="tile").normalised(jnp.asarray(tiles))
    np.testing.assert_allclose(found.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(found.std(axis=(1, 2)), 4, 0), 1, rtol=1e-4)
    np.testing.assert_allclose(found[4], 0, atol=1e-5)
    np.testing.assert_array_equal(method().normalised(jnp.asarray(tiles)), normalize(jnp.asarray(tiles)))


def test_loss_and_accuracy_have_closed_forms() -> None:
    found = method()
    label = np.asarray(found.permutation(batch()))
    for logits, loss, right in ((np.eye(30)[label] * 5, math.log(1 + 29 * math.exp(-5)), 1.0), (np.zeros((BATCH, 30)), math.log(30), 0.0)):
        value, (_, metrics) = found.objective({}, {"logits": jnp.asarray(logits, jnp.float32)}, {}, batch())
        assert float(value) == pytest.approx(loss, rel=1e-5) and float(metrics["accuracy_jigsaw"]) == right
    chance = {spec.name: spec.chance for spec in found.metrics}
    assert chance == {"loss": pytest.approx(math.log(30)), "accuracy_jigsaw": pytest.approx(1 / 30)}


def test_more_permutations_than_there_are_is_refused() -> None:
    assert method(grid=2, permutations=24).puzzle[:2] == (24, 4)
    with raises_naming("config.method.permutations"):
        method(grid=2, permutations=25)
