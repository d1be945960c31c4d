"""Instance discrimination: its bank is found by the image's index and moves after the loss; a run that goes on draws the same negatives."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import about, initialised, tiny_backbone

from jigclu_jax.config import pretrain_config
from jigclu_jax.losses.cross_entropy import cross_entropy
from jigclu_jax.losses.memory_bank import bank_scores, log_partition, nce_loss
from jigclu_jax.methods import DataFacts, Tree
from jigclu_jax.methods.instdisc import InstanceDiscrimination, create
from jigclu_jax.models import create_linear

BATCH, IMAGES = 6, 60
FACTS = DataFacts(IMAGES, None, BATCH, 10)
EXAMPLE = np.array([41, 3, 17, 59, 0, 8], np.int32)


def method(**own: Any) -> InstanceDiscrimination:
    config = pretrain_config("instdisc")
    config.data.image_size = 16
    config.model.update({"arch": "resnet18", "width": 0.05})
    config.method.update({"embedding_dim": 8, "negatives": 20, **own})
    found, backbone = create(config, FACTS), tiny_backbone(blocks=1)
    return dataclasses.replace(found, backbone=backbone, projection=create_linear(backbone.dim, 8))


def batch(epoch: int = 0, example: np.ndarray = EXAMPLE) -> dict[str, Any]:
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, 1, 16, 16, 3)).astype(np.uint8)
    given = about(BATCH) | {"example": example, "epoch": np.full(BATCH, epoch, np.int32), "crop": {"image": crops}}
    return jax.tree.map(jnp.asarray, given)


def outputs(found: InstanceDiscrimination) -> tuple[Tree, Tree]:
    params, stats, extra = initialised(found, FACTS)
    return found.forward(params, stats, extra, batch())[0], extra


def test_the_bank_has_a_unit_row_for_every_image() -> None:
    _, _, extra = initialised(method(), FACTS)
    assert extra["bank"].shape == (IMAGES, 8)
    np.testing.assert_allclose(np.linalg.norm(extra["bank"], axis=1), 1, rtol=1e-5)
    assert np.isfinite(extra["log_z"]), "nothing that debug.nans would find"


def test_the_loss_is_against_the_bank_before_it_moves_and_rows_go_by_example() -> None:
    found = method(momentum=0.25)
    made, extra = outputs(found)
    np.testing.assert_allclose(np.linalg.norm(made["projected"], axis=1), 1, rtol=1e-5)
    loss, (after, metrics) = found.objective({}, made, extra, batch())
    scores = bank_scores(made["projected"], extra["bank"], batch()["example"], found.bank.drawn(batch()), 0.07)
    expected = nce_loss(scores, log_partition(scores, IMAGES), IMAGES)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5) and float(metrics["loss"]) == float(loss)
    others = np.setdiff1d(np.arange(IMAGES), EXAMPLE)
    np.testing.assert_array_equal(after["bank"][others], extra["bank"][others])
    rows = 0.25 * np.asarray(extra["bank"])[EXAMPLE] + 0.75 * np.asarray(made["projected"])
    np.testing.assert_allclose(after["bank"][EXAMPLE], rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-5, atol=1e-7)


def test_the_partition_function_is_that_of_the_first_batch() -> None:
    found = method()
    made, extra = outputs(found)
    _, (after, _) = found.objective({}, made, extra, batch())
    assert float(after["log_z"]) != float(extra["log_z"])
    other = {**made, "projected": -made["projected"]}
    _, (later, _) = found.objective({}, other, after, batch(1))
    assert float(later["log_z"]) == float(after["log_z"])
    scores = bank_scores(other["projected"], after["bank"], batch()["example"], found.bank.drawn(batch(1)), 0.07)
    loss, _ = found.objective({}, other, after, batch(1))
    assert float(loss) == pytest.approx(float(nce_loss(scores, after["log_z"], IMAGES)), rel=1e-5)


def test_no_negatives_is_the_softmax_over_all_images() -> None:
    found = method(negatives=0)
    made, extra = outputs(found)
    loss, (after, metrics) = found.objective({}, made, extra, batch())
    logits = made["projected"] @ extra["bank"].T / 0.07
    assert float(loss) == pytest.approx(float(cross_entropy(logits, batch()["example"])), rel=1e-5)
    assert float(metrics["accuracy_instance"]) == pytest.approx(np.mean(np.argmax(logits, axis=1) == EXAMPLE))
    assert float(after["log_z"]) == float(extra["log_z"]) and found.bank.chance == 1 / IMAGES


def test_negatives_are_uniform_and_follow_from_seed_epoch_and_the_batchs_first_image() -> None:
    bank = method(negatives=30_000).bank
    drawn = np.asarray(bank.drawn(batch()))
    assert np.abs(np.bincount(drawn, minlength=IMAGES) - 500).max() < 110
    np.testing.assert_array_equal(drawn, bank.drawn(batch()))
    first, other = EXAMPLE.copy(), EXAMPLE[::-1].copy()
    first[1:] = first[1:][::-1]
    np.testing.assert_array_equal(drawn, bank.drawn(batch(example=first)), "the others of the batch change nothing")
    for again in (bank.drawn(batch(1)), bank.drawn(batch(example=other)), dataclasses.replace(bank, seed=1).drawn(batch())):
        assert abs((np.asarray(again) == drawn).mean() - 1 / IMAGES) < 0.01
