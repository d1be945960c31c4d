"""The online head: it learns, sees each cell's own label, and leaves the backbone's gradient as it is to the bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny
from ml_collections import ConfigDict
from tiny_backbone import montage_batch, tiny_method

from jigclu_jax.config import pretrain_config
from jigclu_jax.errors import UserError
from jigclu_jax.methods import DataFacts, create_method, output_shapes
from jigclu_jax.train.gradient import Given, in_parts
from jigclu_jax.train.online import OnlineHead, with_online_head

CLASSES = 5


def config() -> ConfigDict:
    found = tiny.pretrain_config()
    found.online.head = True
    return found


def facts(classes: int = CLASSES) -> DataFacts:
    return DataFacts(80, tuple("abcdefgh"[:classes]) or None, 8, 10)


def batch() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    label = np.array([3, 1, 4, 1, -1, 2, 0, 3], np.int32)
    return montage_batch(generator.integers(0, 255, (8, 32, 32, 3)), generator.permutation(32)) | {"label": label}


def method_with_head() -> OnlineHead:
    alone = tiny_method(config(), CLASSES, blocks=1)
    found = with_online_head(alone, facts(), alone.backbone.dim)
    assert isinstance(found, OnlineHead)
    return found


@pytest.fixture(scope="module")
def gradients() -> tuple[Any, Any]:
    """((loss, aux), gradient) of the method alone, and with the head."""
    found = []
    for method in (tiny_method(config(), CLASSES, blocks=1), method_with_head()):
        trees = jax.jit(lambda key, method=method: method.init(key, facts()))(jax.random.key(0))
        found.append(jax.jit(jax.value_and_grad(method.loss, has_aux=True))(*trees, batch()))
    return found[0], found[1]


def test_the_backbone_and_every_other_parameter_get_the_same_gradient_to_the_bit(gradients: tuple[Any, Any]) -> None:
    (_, alone), (_, beside) = gradients
    head = beside.pop("online")
    assert jax.tree.structure(alone) == jax.tree.structure(beside)
    jax.tree.map(np.testing.assert_array_equal, alone, beside)
    assert np.abs(head["kernel"]).max() > 0


def test_statistics_and_the_methods_own_metrics_stay(gradients: tuple[Any, Any]) -> None:
    ((_, (stats, _, metrics)), _), ((loss, (stats_too, _, metrics_too)), _) = gradients
    jax.tree.map(np.testing.assert_array_equal, stats, stats_too)
    for name, value in metrics.items():
        np.testing.assert_array_equal(value, metrics_too[name])
    assert float(loss) == pytest.approx(float(metrics["loss"] + metrics_too["online_loss"]), rel=1e-6)


def test_the_head_is_judged_on_the_label_of_each_cells_image(gradients: tuple[Any, Any]) -> None:
    """An oracle in numpy: features from the method, scores by hand, cells without a label left out."""
    method = method_with_head()
    params, stats, extra = jax.jit(lambda key: method.init(key, facts()))(jax.random.key(0))
    given = batch()
    features = jax.jit(lambda given: method.method.forward(params, stats, extra, given)[0]["features"])(given)
    vectors = np.asarray(features, np.float64).reshape(32, -1)
    scores = vectors @ np.asarray(params["online"]["kernel"]) + np.asarray(params["online"]["bias"])
    losses, right = [], []
    for row, cluster in zip(scores, given["montage"]["cluster"].reshape(-1), strict=True):
        label = given["label"][cluster]
        if label >= 0:
            losses.append(np.log(np.exp(row).sum()) - row[label])
            right.append(row.argmax() == label)
    assert len(losses) == 28
    metrics = gradients[1][0][1][2]
    assert float(metrics["online_loss"]) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(metrics["online_top1"]) == pytest.approx(np.mean(right))


def test_the_head_goes_through_micro_batches() -> None:
    """Two passes over four parts: the same trees come out, and the head has a gradient of its own."""
    method = method_with_head()
    trees = jax.eval_shape(lambda: method.init(jax.random.key(0), facts()))
    found = jax.eval_shape(
        lambda params, stats, extra: in_parts(
            Given(method, lambda path: False, stats, extra, jax.tree.map(jnp.asarray, batch())), params, parts=4, unroll=True
        ),
        *trees,
    )
    assert jax.tree.map(lambda leaf: leaf.shape, found.gradient) == jax.tree.map(lambda leaf: leaf.shape, trees[0])
    assert {"online_loss", "online_top1"} <= found.metrics.keys() == {spec.name for spec in method.metrics}


def test_a_method_of_single_crops_has_a_place_for_a_head_as_well() -> None:
    alone = create_method(pretrain_config("supervised"), facts())
    method = with_online_head(alone, facts(), alone.backbone.dim)
    assert "online" in output_shapes(method, facts())


def test_where_a_head_has_no_place() -> None:
    alone = create_method(config(), facts(0))
    with pytest.raises(UserError, match=r"config.online.head=True needs images of at least two classes"):
        with_online_head(alone, facts(0), alone.backbone.dim)
