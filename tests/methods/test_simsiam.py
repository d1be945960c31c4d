"""SimSiam and FastSiam: statistics by view, the stopped gradient, the heads, recipes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny
from ml_collections import ConfigDict
from tiny_backbone import about, flat_backbone, initialised

from jigclu_jax.config import check_config, load_config, pretrain_config
from jigclu_jax.errors import UserError
from jigclu_jax.losses.negative_cosine import mean_of_others, negative_cosine
from jigclu_jax.methods import DataFacts, create_method, simsiam

BATCH, SIDE = 6, 4
FACTS = DataFacts(30, None, BATCH, 5)


def config(**method: Any) -> ConfigDict:
    found = pretrain_config("simsiam")
    found.data.image_size = SIDE
    found.method.update({"embedding_dim": 8, "predictor_dim": 4, **method})
    return found


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(simsiam, "build_backbone", lambda model: flat_backbone(SIDE))
    return lambda **fields: create_method(config(**fields), FACTS)


def batch(views: int) -> dict[str, Any]:
    crops = np.random.default_rng(0).integers(0, 255, (BATCH, views, SIDE, SIDE, 3)).astype(np.uint8)
    return about(BATCH) | {"crops": {"image": crops}}


@pytest.mark.parametrize("views", [2, 4])
def test_each_view_is_normalised_by_itself(make: Callable[..., Any], views: int) -> None:
    method = make(views=views)
    params, stats, extra = initialised(method, FACTS)
    outputs, after, _ = jax.jit(method.forward)(params, stats, extra, batch(views))
    means = []
    for view in range(views):
        x = simsiam.normalize(jnp.asarray(batch(views)["crops"]["image"][:, view]), "float32")
        stages, seen = method.backbone.apply(params["backbone"], stats["backbone"], x, True)
        projected, _ = method.projection.apply(params["projection"], stats["projection"], stages.features, True)
        predicted, _ = method.predictor.apply(params["predictor"], stats["predictor"], projected, True)
        np.testing.assert_allclose(outputs["projections"][:, view], projected, atol=1e-4)
        np.testing.assert_allclose(outputs["predictions"][:, view], predicted, atol=1e-4)
        means.append(seen["bn0"]["mean"])
    np.testing.assert_allclose(after["backbone"]["bn0"]["mean"], np.mean(means, axis=0), atol=1e-5)
    loss, (_, metrics) = method.objective(params, outputs, extra, batch(views))
    expected = negative_cosine(outputs["predictions"], mean_of_others(outputs["projections"]))
    assert float(loss) == pytest.approx(float(expected)) == float(metrics["loss"]) and 0 < float(metrics["embedding_std"]) < 1.1
    assert method.images(batch(views)).tolist() == [[row] * views for row in range(BATCH)]


def test_the_gradient_is_that_of_fixed_targets(make: Callable[..., Any]) -> None:
    method = make()
    params, stats, extra = initialised(method, FACTS)
    images = jax.tree.map(jnp.asarray, batch(2))
    fixed = mean_of_others(method.forward(params, stats, extra, images)[0]["projections"])

    def with_fixed_targets(params: Any) -> jax.Array:
        return negative_cosine(method.forward(params, stats, extra, images)[0]["predictions"], fixed)

    found = jax.jit(jax.grad(lambda params: method.loss(params, stats, extra, images)[0]))(params)
    expected = jax.jit(jax.grad(with_fixed_targets))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    assert np.abs(found["projection"]["linear0"]["kernel"]).max() > 0


def test_the_last_batch_norm_of_the_projection_has_no_scale_and_the_predictor_is_a_bottleneck(make: Callable[..., Any]) -> None:
    params, stats, extra = initialised(make(), FACTS)
    assert {"bn0", "bn1", "linear2"} <= set(params["projection"]) and not params["projection"].get("bn2")
    assert set(stats["projection"]) == {"bn0", "bn1", "bn2"} and set(stats["predictor"]) == {"bn0"} and extra == {}
    assert [params["predictor"][name]["kernel"].shape for name in ("linear0", "linear1")] == [(8, 4), (4, 8)]


def test_one_view_is_refused() -> None:
    with pytest.raises(UserError, match=r"config\.method\.views"):
        check_config(config(views=1))


def test_the_recipes_are_the_authors() -> None:
    found = load_config(tiny.CONFIGS / "pretrain_simsiam.py")
    assert (found.batch_size, found.epochs, found.optimizer.learning_rate, found.optimizer.weight_decay) == (512, 100, 0.1, 1e-4)
    assert (found.method.views, found.method.layers, found.method.embedding_dim, found.method.predictor_dim) == (2, 3, 2048, 512)
    assert found.optimizer.constant_rate == ("predictor/*",)
    small = load_config(tiny.CONFIGS / "pretrain_simsiam.py", "preset=cifar10")
    assert (small.batch_size, small.epochs, small.optimizer.learning_rate, small.method.layers) == (512, 800, 0.06, 2)
    fast = load_config(tiny.CONFIGS / "pretrain_simsiam.py", "preset=cifar10,views=4")
    assert (fast.batch_size, fast.epochs, fast.optimizer.learning_rate, fast.method.views) == (128, 200, 0.06, 4)
