"""The online head: it learns, sees each cell's own label, and leaves the backbone's gradient as it is to the bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny
from ml_collections import ConfigDict

from jigclu_jax.data.input.montage import group_layout
from jigclu_jax.errors import UserError
from jigclu_jax.methods import create_method
from jigclu_jax.methods.online import with_online_head
from jigclu_jax.train.gradient import in_parts

CLASSES = 5


def config() -> ConfigDict:
    found = tiny.pretrain_config()
    found.online.head = True
    return found


def batch() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    _, cluster, location = group_layout(0, 0, 0, 8, 2)
    label = np.array([3, 1, 4, 1, -1, 2, 0, 3], np.int32)
    return {"image": generator.integers(0, 255, (8, 32, 32, 3), np.uint8), "cluster": cluster, "location": location, "label": label}


@pytest.fixture(scope="module")
def gradients() -> tuple[Any, Any]:
    """((loss, aux), gradient) of the method alone, and with the head."""
    alone = create_method(config())
    found = []
    for method in (alone, with_online_head(config(), alone, CLASSES)):
        trees = jax.jit(method.init)(jax.random.key(0))
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
    """An oracle in numpy: vectors from the method, scores by hand, cells without a label left out."""
    method = with_online_head(config(), create_method(config()), CLASSES)
    params, stats, _ = jax.jit(method.init)(jax.random.key(0))
    given = batch()
    from jigclu_jax.ops.normalize import normalize

    vectors = np.asarray(jax.jit(lambda x: method.outputs(params, stats, x, True)[0])(normalize(jnp.asarray(given["image"]))), np.float64)
    scores = vectors @ np.asarray(params["online"]["kernel"]) + np.asarray(params["online"]["bias"])
    losses, right = [], []
    for row, cluster in zip(scores, given["cluster"].reshape(-1), strict=True):
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
    method = with_online_head(config(), create_method(config()), CLASSES)
    trees = jax.eval_shape(method.init, jax.random.key(0))
    found = jax.eval_shape(
        lambda *trees: in_parts(method, lambda path: False, *trees, jax.tree.map(jnp.asarray, batch()), parts=4, unroll=True), *trees
    )
    assert jax.tree.map(lambda leaf: leaf.shape, found.gradient) == jax.tree.map(lambda leaf: leaf.shape, trees[0])
    assert {"online_loss", "online_top1"} <= found.metrics.keys() == set(method.metric_names)


def test_where_a_head_has_no_place() -> None:
    found = config()
    with pytest.raises(UserError, match=r"^config.online.head=True needs images of at least two classes"):
        with_online_head(found, create_method(found), 1)
    found = tiny.pretrain_config(method="supervised")
    found.online.head = True
    with pytest.raises(UserError, match=r"config.method.name='supervised' trains on no montages"):
        with_online_head(found, create_method(found, 5), 5)
    found.online.head = False
    method = create_method(found, 5)
    assert with_online_head(found, method, 5) is method
