"""SeLa: its first labels, its schedule, its re-labellings and its loss; too few images."""

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
from jigclu_jax.methods import DataFacts, create_method, sela
from jigclu_jax.methods.sela import epochs_to_label

BATCH, IMAGES = 8, 42
FACTS = DataFacts(IMAGES, None, BATCH, 5)


@pytest.fixture(autouse=True)
def of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sela, "build_backbone", lambda model: tiny_backbone(model.dtype, blocks=1))


def method(**own: Any) -> Any:
    found: ConfigDict = load_config(tiny.CONFIGS / "pretrain_sela.py", f"preset=cifar10,width=0.05,batch_size={BATCH},epochs=4")
    found.method.update({"clusters": 4, "heads": 3, **own})
    return create_method(found, FACTS)


def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(IMAGES, 8)).astype(np.float32)


def test_the_first_labels_are_random_and_of_equal_share() -> None:
    found = method()
    _, _, extra = initialised(found, FACTS)
    labels = np.asarray(extra["labels"])
    assert labels.shape == (3, IMAGES)
    for head in labels:
        assert sorted(np.bincount(head)) == [10, 10, 11, 11]
    assert (labels[0] != labels[1]).any() and (labels[0] != np.arange(IMAGES) % 4).any()


def test_the_loss_is_the_mean_over_heads_of_the_images_own_labels() -> None:
    found = method()
    labels = np.random.default_rng(1).integers(0, 4, (3, IMAGES)).astype(np.int32)
    example = np.random.default_rng(2).permutation(IMAGES)[:BATCH].astype(np.int32)
    extra = {"labels": jnp.asarray(labels), **{name: jnp.zeros(3) for name in ("nmi", "clusters", "largest_cluster")}}
    scores = np.random.default_rng(3).normal(size=(BATCH, 3, 4)).astype(np.float32)
    loss, (after, metrics) = found.objective({}, {"scores": jnp.asarray(scores)}, extra, about(BATCH) | {"example": example})
    share = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    heads = [-np.log([share[row, head, labels[head, image]] for row, image in enumerate(example)]).mean() for head in range(3)]
    assert float(loss) == pytest.approx(np.mean(heads), rel=1e-5)
    right = [share[row, head].argmax() == labels[head, image] for head in range(3) for row, image in enumerate(example)]
    assert float(metrics["accuracy_clusters"]) == pytest.approx(np.mean(right)) and after is extra


@pytest.mark.parametrize("in_turn", [False, True])
def test_heads_are_labelled_anew_all_together_or_in_turn(in_turn: bool) -> None:
    found = method(heads_in_turn=in_turn)
    params, _, extra = initialised(found, FACTS)
    after = found.before_epoch(1, features, params, extra)
    jax.tree.map(np.testing.assert_array_equal, after, found.before_epoch(1, features, params, extra))
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, jnp.dtype(leaf.dtype)), tree) for tree in (extra, after)]
    assert shapes[0] == shapes[1]
    changed = [bool((new != old).any()) for new, old in zip(after["labels"], np.asarray(extra["labels"]), strict=True)]
    assert changed == ([False, True, False] if in_turn else [True] * 3)
    for head in np.flatnonzero(changed):
        assert (abs(np.bincount(after["labels"][head], minlength=4) - 10.5) <= 4).all()
        assert 0 < after["nmi"][head] < 0.5 and after["clusters"][head] == 4
    again = found.before_epoch(1, features, params, after)
    np.testing.assert_array_equal(again["labels"], after["labels"])
    assert again["nmi"][1] == pytest.approx(1)


def test_between_re_labellings_nothing_is_computed() -> None:
    found = method(relabellings=2, relabel_power=1.0)

    def refused() -> np.ndarray:
        raise AssertionError("no epoch to label")

    extra = {"labels": np.zeros((3, IMAGES), np.int32)}
    assert found.before_epoch(2, refused, {}, extra) is extra


def test_the_schedule_is_dense_at_the_beginning() -> None:
    """Times of the authors' code: 401.01 * linspace(0, 1, 100) ** 2 for 401 epochs."""
    epochs = sorted(epochs_to_label(100, 2.0, 401))
    assert epochs[:5] == [0, 1, 2, 3, 4] and epochs[-2:] == [392, 401]
    assert 90 <= len([epoch for epoch in epochs if epoch < 401]) <= 99
    gaps = np.diff(epochs)
    assert gaps[:20].mean() < 2 < 7 < gaps[-1] <= 9
    assert len(epochs_to_label(400, 1.0, 400) & set(range(400))) >= 398, "evenly: before every epoch, but for the end of the last interval"


def test_more_clusters_than_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"config\.method\.clusters=43"):
        method(clusters=43)


@pytest.mark.parametrize("preset", ["imagenet", "cifar10", "folder"])
def test_the_recipes_are_the_authors(preset: str) -> None:
    found = load_config(tiny.CONFIGS / "pretrain_sela.py", f"preset={preset}")
    own, optimizer, augment = found.method, found.optimizer, found.augment
    assert (own.heads, augment.hue, augment.jitter_probability, augment.grayscale_probability) == (10, 0.4, 1.0, 0.2)
    assert (augment.blur_probability, found.epochs, optimizer.momentum) == (0.0, 400, 0.9)
    if preset == "imagenet":
        assert (own.clusters, own.sharpness, own.relabellings, own.heads_in_turn) == (3000, 25.0, 100, False)
        assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.milestones) == (0.08, 1e-5, (150.0, 300.0, 350.0))
    if preset == "cifar10":
        assert (own.clusters, own.sharpness, own.relabellings, own.heads_in_turn) == (128, 10.0, 400, True)
        assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.milestones) == (0.03, 5e-4, (240.0, 320.0))
        assert (found.batch_size, augment.crop_area) == (128, (0.2, 1.0))
