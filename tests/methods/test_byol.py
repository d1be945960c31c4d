"""BYOL: two laws, statistics by view, the target network, the loss, recipes."""

import math
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
from jigclu_jax.methods import DataFacts, byol, create_method

BATCH, SIDE, STEPS = 6, 4, 10
FACTS = DataFacts(30, None, BATCH, 5)


def config(**method: Any) -> ConfigDict:
    found = pretrain_config("byol")
    found.epochs = STEPS // FACTS.steps_per_epoch
    found.data.image_size = SIDE
    found.method.update({"hidden_dim": 16, "embedding_dim": 8, **method})
    return found


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(byol, "build_backbone", lambda model: flat_backbone(SIDE))
    return create_method(config(), FACTS)


def batch() -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 255, (2, BATCH, 1, SIDE, SIDE, 3)).astype(np.uint8)
    return about(BATCH) | {name: {"image": own} for name, own in zip(("first", "second"), images, strict=True)}


def test_the_two_views_have_laws_of_their_own(method: Any) -> None:
    first, second = (view.law for view in method.views)
    assert (first.blur_probability, first.solarize_probability) == (1.0, 0.0)
    assert (second.blur_probability, second.solarize_probability) == (0.1, 0.2)
    same = ("crop_area", "brightness", "contrast", "saturation", "hue", "grayscale_probability")
    assert [getattr(first, name) for name in same] == [getattr(second, name) for name in same] == [(0.08, 1.0), 0.4, 0.4, 0.2, 0.1, 0.2]


def test_each_view_is_normalised_by_itself_and_predicts_the_others_target(method: Any) -> None:
    params, stats, extra = initialised(method, FACTS)
    extra["target"]["params"] = jax.tree.map(lambda leaf: 1.2 * leaf + 0.05, extra["target"]["params"])
    outputs, after, more = jax.jit(method.forward)(params, stats, extra, batch())

    def alone(view: str) -> tuple[np.ndarray, np.ndarray]:
        """Prediction and target of one view, as if there were no other."""
        x = byol.normalize(jnp.asarray(batch()[view]["image"][:, 0]), "float32")
        rows = {}
        for name, tree in (("online", params), ("target", extra["target"]["params"])):
            y = method.backbone.apply(tree["backbone"], stats["backbone"], x, True)[0].features
            rows[name] = method.projection.apply(tree["projection"], stats["projection"], y, True)[0]
        return method.predictor.apply(params["predictor"], stats["predictor"], rows["online"], True)[0], rows["target"]

    (first, first_target), (second, second_target) = alone("first"), alone("second")
    np.testing.assert_allclose(outputs["predictions"], np.stack([first, second], 1), atol=1e-4)
    np.testing.assert_allclose(outputs["targets"], np.stack([first_target, second_target], 1), atol=1e-4)

    def squared(x: np.ndarray, y: np.ndarray) -> float:
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        return float(np.mean(np.sum((x - y) ** 2, axis=1)))

    loss, (_, metrics) = method.objective(params, outputs, more, batch())
    assert float(loss) == pytest.approx(squared(first, second_target) + squared(second, first_target), rel=1e-4) == float(metrics["loss"])
    assert not np.array_equal(more["target"]["stats"]["backbone"]["bn0"]["mean"], after["backbone"]["bn0"]["mean"]), "statistics of its own"
    assert method.images(batch()).tolist() == [[row, row] for row in range(BATCH)]


def test_the_target_follows_with_a_momentum_that_rises_to_1(method: Any) -> None:
    params, stats, extra = initialised(method, FACTS)
    kept = extra["target"]["stats"]
    value = 0.0  # of a parameter that starts at 0 and whose online one is 1
    extra["target"]["params"] = jax.tree.map(jnp.zeros_like, extra["target"]["params"])
    ones = jax.tree.map(jnp.ones_like, params)
    for step in range(STEPS + 1):
        momentum = 1 - 0.004 * (math.cos(math.pi * step / STEPS) + 1) / 2
        before, value = value, momentum * value + 1 - momentum
        extra = method.after_update(ones, jax.tree.map(lambda leaf: leaf + 9, stats), extra)
        for leaf in jax.tree.leaves(extra["target"]["params"]):
            np.testing.assert_allclose(leaf, value, rtol=1e-4)
    assert before == pytest.approx(value) and int(extra["step"]) == STEPS + 1
    assert set(extra["target"]["params"]) == {"backbone", "projection"}
    jax.tree.map(np.testing.assert_array_equal, extra["target"]["stats"], kept)


@pytest.mark.parametrize("momentum", [1.0, -0.1])
def test_a_momentum_outside_of_0_to_1_is_refused(momentum: float) -> None:
    with pytest.raises(UserError, match=r"config\.method\.momentum"):
        check_config(config(momentum=momentum))


@pytest.mark.parametrize(
    ("epochs", "rate", "decay", "momentum"), [(100, 0.45, 1e-6, 0.99), (300, 0.3, 1e-6, 0.99), (1000, 0.2, 1.5e-6, 0.996)]
)
def test_the_recipe_follows_the_epochs_as_in_the_authors_code(epochs: int, rate: float, decay: float, momentum: float) -> None:
    found = load_config(tiny.CONFIGS / "pretrain_byol.py", f"epochs={epochs}")
    assert (found.batch_size, found.optimizer.name, found.optimizer.warmup_epochs) == (4096, "lars", 10.0)
    assert found.optimizer.learning_rate == pytest.approx(16 * rate)
    assert (found.optimizer.weight_decay, found.method.momentum) == (decay, momentum)
    assert (found.method.hidden_dim, found.method.embedding_dim) == (4096, 256)
