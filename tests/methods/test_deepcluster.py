"""DeepCluster: its head's own step, its epochs, and the traps: empty clusters, collapse, too few images, another data set."""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny
from ml_collections import ConfigDict
from tiny_backbone import about, initialised, tiny_backbone

from jigclu_jax.config import load_config
from jigclu_jax.errors import UserError
from jigclu_jax.methods import DataFacts, create_method, deepcluster
from jigclu_jax.pseudo_labels.sampling import uniform_over_clusters
from jigclu_jax.train.gradient import Given, in_parts, whole_batch

BATCH, IMAGES = 8, 40
FACTS = DataFacts(IMAGES, None, BATCH, 5)


def config(**own: Any) -> ConfigDict:
    found = load_config(tiny.CONFIGS / "pretrain_deepcluster.py", f"preset=cifar10,width=0.05,batch_size={BATCH},epochs=2,clusters=6")
    found.method.update({"pca_dim": 4, "head_learning_rate": 0.5, "head_weight_decay": 0.01, **own})
    return found


@pytest.fixture(autouse=True)
def of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepcluster, "build_backbone", lambda model: tiny_backbone(model.dtype, blocks=1))


def batch(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    crops = rng.integers(0, 255, (BATCH, 1, 32, 32, 3)).astype(np.uint8)
    return about(BATCH) | {"example": rng.permutation(IMAGES)[:BATCH].astype(np.int32), "crop": {"image": crops}}


def clouds(seed: int = 0) -> np.ndarray:
    """Features of 40 images in three clouds, of 30, 8 and 2."""
    rng = np.random.default_rng(seed)
    return (np.repeat(rng.normal(size=(3, 10)) * 9, (30, 8, 2), axis=0) + rng.normal(size=(IMAGES, 10))).astype(np.float32)


def test_the_head_makes_a_step_of_plain_sgd_and_the_backbone_sees_the_head_before_it() -> None:
    method = create_method(config(), FACTS)
    _, _, extra = initialised(method, FACTS)
    extra["labels"] = jnp.arange(IMAGES, dtype=jnp.int32) % 6
    pooled = jnp.asarray(np.random.default_rng(1).normal(size=(BATCH, method.backbone.dim)), jnp.float32)

    def objective(pooled: Any) -> Any:
        return method.objective({}, {"pooled": pooled}, extra, batch())

    (loss, (after, metrics)), by_features = jax.value_and_grad(objective, has_aux=True)(pooled)
    kernel, bias = (np.asarray(extra["head"][name], np.float64) for name in ("kernel", "bias"))
    labels = batch()["example"] % 6
    scores = pooled @ kernel + bias
    share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(share[range(BATCH), labels]).mean(), rel=1e-5)
    wrong = (share - np.eye(6)[labels]) / BATCH
    np.testing.assert_allclose(by_features, wrong @ kernel.T, atol=1e-6)
    np.testing.assert_allclose(after["head"]["kernel"], kernel - 0.5 * (pooled.T @ wrong + 0.01 * kernel), atol=1e-6)
    np.testing.assert_allclose(after["head"]["bias"], bias - 0.5 * (wrong.sum(axis=0) + 0.01 * bias), atol=1e-6)
    assert metrics["loss"] == loss and after["labels"] is extra["labels"]


@pytest.mark.slow
def test_micro_batches_make_the_same_step() -> None:
    method = create_method(config(), FACTS)
    params, stats, extra = initialised(method, FACTS)
    given = Given(method, lambda path: False, stats, extra, jax.tree.map(jnp.asarray, batch()))
    ways = (lambda params: in_parts(given, params, parts=2, unroll=True), lambda params: whole_batch(given, params))
    parts, whole = (jax.jit(lambda params, way=way: way(params).extra)(params) for way in ways)
    assert jax.tree.structure(parts) == jax.tree.structure(whole)
    moved = np.abs(parts["head"]["kernel"] - extra["head"]["kernel"]).max()
    assert moved > 0 and np.abs(parts["head"]["kernel"] - whole["head"]["kernel"]).max() < moved


def test_an_epoch_begins_with_clusters_of_all_images_and_a_head_of_its_own() -> None:
    method = create_method(config(clusters=3), FACTS)
    params, _, extra = initialised(method, FACTS)
    assert (np.asarray(extra["labels"]) == 0).all()
    first = method.before_epoch(0, clouds, params, extra)
    again = method.before_epoch(0, clouds, params, extra)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    wanted = jax.tree.map(lambda leaf: (leaf.shape, jnp.dtype(leaf.dtype)), extra)
    assert jax.tree.map(lambda leaf: (leaf.shape, jnp.dtype(leaf.dtype)), first) == wanted
    assert first["nmi"] == 0 and first["clusters"] == 3, "nothing is known of one cluster of all images"
    second = method.before_epoch(1, clouds, params, first)
    assert 0 < second["nmi"] <= 1 and (second["head"]["kernel"] != first["head"]["kernel"]).all()
    assert second["head"]["kernel"].std() == pytest.approx(0.01, rel=0.3) and (second["head"]["bias"] == 0).all()


def test_the_epoch_shows_all_clusters_equally_often() -> None:
    labels = np.repeat(np.array([5, 0, 3], np.int32), (70, 28, 2))  # 1, 2 and 4 are empty
    order = uniform_over_clusters(labels, np.random.default_rng(0))
    assert len(order) == 100 and order.dtype == np.int32
    seen = np.bincount(labels[order], minlength=6)
    assert seen.sum() == 100 and (seen[[1, 2, 4]] == 0).all() and (abs(seen[[0, 3, 5]] - 33.3) <= 3).all()
    assert np.bincount(order)[labels == 5].max(initial=0) <= 1, "a large cluster is drawn without repetition"
    method = create_method(config(), FACTS)
    orders = [method.epoch_order(epoch, {"labels": labels}) for epoch in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()


def test_a_collapse_is_told_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    method = create_method(config(), FACTS)
    params, _, extra = initialised(method, FACTS)
    with caplog.at_level(logging.WARNING):
        found = method.before_epoch(3, lambda: np.full((IMAGES, 10), 0.3, np.float32), params, extra)
    assert found["clusters"] == 1 and found["largest_cluster"] == 1
    assert len(caplog.records) == 1 and "collapse" in caplog.text and "epoch 3" in caplog.text
    order = method.epoch_order(3, found)
    assert len(order) == IMAGES and set(order) <= set(range(IMAGES))
    caplog.clear()
    method.before_epoch(3, clouds, params, extra)
    assert not caplog.records


def test_more_clusters_than_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"config\.method\.clusters=41"):
        create_method(config(clusters=41), FACTS)
    create_method(config(clusters=40), FACTS)


def test_the_recipe_is_the_authors() -> None:
    found = load_config(tiny.CONFIGS / "pretrain_deepcluster.py")
    assert (found.method.clusters, found.method.pca_dim, found.method.iterations) == (10_000, 256, 20)
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.schedule, optimizer.momentum) == ("sgd", 0.05, "constant", 0.9)
    assert (optimizer.weight_decay, found.method.head_learning_rate, found.method.head_weight_decay) == (1e-5, 0.05, 1e-5)
    assert (found.batch_size, found.epochs, found.augment.crop_area, found.augment.jitter_probability) == (256, 200, (0.08, 1.0), 0.0)
