"""MoCo: the key encoder, the queue, the shuffle and what it prevents, refusals, recipes."""

import dataclasses
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
from jigclu_jax.losses.info_nce import info_nce
from jigclu_jax.methods import DataFacts, create_method, moco

BATCH, GROUPS, QUEUE, SIDE = 12, 3, 36, 4
FACTS = DataFacts(96, None, BATCH, 8)


def config(**method: Any) -> ConfigDict:
    found = pretrain_config("moco")
    found.model.update({"arch": "resnet18", "stem": "small", "width": 0.05})
    found.data.image_size = SIDE
    found.method.update({"queue": QUEUE, "embedding_dim": 8, "bn_groups": GROUPS, **method})
    return found


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(moco, "build_backbone", lambda model: flat_backbone(SIDE))
    return lambda **fields: create_method(config(**fields), FACTS)


def batch(seed: int = 0, *, same: bool = False, epoch: int = 0) -> dict[str, Any]:
    """Random pixels; `same`: an image's two crops are one."""
    crops = np.random.default_rng(seed).integers(0, 255, (BATCH, 2, SIDE, SIDE, 3)).astype(np.uint8)
    if same:
        crops[:, 1] = crops[:, 0]
    return about(BATCH) | {"crops": {"image": crops}, "epoch": np.full(BATCH, epoch, np.int32)}


def cosines(method: Any, images: dict[str, Any]) -> np.ndarray:
    """Of each query with its key at step 0, where both encoders are one."""
    params, stats, extra = initialised(method, FACTS)
    outputs, _, _ = jax.jit(method.forward)(params, stats, extra, images)
    return np.sum(outputs["embeddings"][:, 0] * outputs["keys"], axis=1)


def test_keys_come_from_the_key_encoder_whose_statistics_are_its_own(make: Callable[..., Any]) -> None:
    method = make(bn_groups=1)
    params, stats, extra = initialised(method, FACTS)
    other = jax.tree.map(lambda leaf: 1.5 * leaf + 0.1, params)
    extra["key_encoder"] = {"params": other, "stats": jax.tree.map(lambda leaf: leaf + 1, stats)}
    outputs, after, more = jax.jit(method.forward)(params, stats, extra, batch())
    expected, own = method._encode(other, extra["key_encoder"]["stats"], jnp.asarray(batch()["crops"]["image"][:, 1]), True)[1:]
    np.testing.assert_allclose(outputs["keys"], expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), more["key_encoder"]["stats"], own)
    query = method._encode(params, stats, jnp.asarray(batch()["crops"]["image"][:, 0]), True)[2]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after, query)
    jax.tree.map(np.testing.assert_array_equal, more["key_encoder"]["params"], other)
    assert outputs["features"].shape == (BATCH, 1, 8) and method.images(batch()).tolist() == [[row] for row in range(BATCH)]


def test_the_key_encoder_after_some_updates_is_the_closed_form_and_its_statistics_stand_still(make: Callable[..., Any]) -> None:
    method = make(momentum=0.9)
    params, stats, extra = initialised(method, FACTS)
    first, kept = extra["key_encoder"]["params"], extra["key_encoder"]["stats"]
    for step in range(1, 5):
        extra = method.after_update(jax.tree.map(lambda leaf: leaf + step, params), jax.tree.map(lambda leaf: leaf + 9, stats), extra)  # noqa: B023
    moved = 0.1 * sum(0.9 ** (4 - step) * step for step in range(1, 5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b + moved, rtol=1e-5, atol=1e-6), extra["key_encoder"]["params"], first)
    jax.tree.map(np.testing.assert_array_equal, extra["key_encoder"]["stats"], kept)


def test_the_queue_starts_with_directions_is_written_after_the_loss_and_wraps(make: Callable[..., Any]) -> None:
    method = make()
    params, _, extra = initialised(method, FACTS)
    first = np.asarray(extra["queue"])
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-5)
    assert np.abs(first @ first.T - np.eye(QUEUE)).max() < 0.999, "all different"
    rng, expected = np.random.default_rng(0), first.copy()
    for step in range(4):
        queries, keys = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, BATCH, 8)).astype(np.float32))
        outputs = {"embeddings": jnp.asarray(queries)[:, None], "keys": jnp.asarray(keys)}
        loss, (extra, metrics) = method.objective(params, outputs, extra, batch())
        before, _ = info_nce(*map(jnp.asarray, (queries, keys, expected)), 0.2)
        assert float(loss) == pytest.approx(float(before), rel=1e-5) == float(metrics["loss"])
        expected[step % 3 * BATCH : (step % 3 + 1) * BATCH] = keys
        np.testing.assert_allclose(extra["queue"], expected, rtol=1e-6)
        assert int(extra["pointer"]) == (step + 1) % 3 * BATCH


def test_a_key_in_its_querys_group_is_recognised_by_its_statistics(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The two crops are one picture: whatever tells query and key apart is BatchNorm's doing."""
    images = batch(same=True)
    np.testing.assert_allclose(cosines(make(shuffle=False), images), 1, atol=1e-5)
    assert cosines(make(), images).max() < 0.999, "the shuffle takes it away"
    np.testing.assert_allclose(cosines(make(bn_groups=1), images), 1, atol=1e-5)

    def in_order(order: np.ndarray) -> np.ndarray:
        monkeypatch.setattr(moco, "image_uniforms", lambda *args: jnp.argsort(jnp.asarray(order))[:, None] / BATCH)
        return cosines(make(), images)

    rows = np.arange(BATCH)
    np.testing.assert_allclose(in_order(np.roll(rows, GROUPS)), 1, atol=1e-5)  # other places, the same groups
    swapped = rows.copy()
    swapped[[0, 1]] = [1, 0]  # two images change their groups; the third group is as it was
    found = in_order(swapped)
    np.testing.assert_allclose(found[rows % GROUPS == 2], 1, atol=1e-5)
    assert found[rows % GROUPS != 2].max() < 0.999


def test_the_shuffle_follows_from_seed_epoch_and_images(make: Callable[..., Any]) -> None:
    method = make()
    orders = [method._order(batch(epoch=epoch)).tolist() for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2]) == list(range(BATCH))
    other = dataclasses.replace(method, seed=7)
    assert other._order(batch()).tolist() != orders[0]
    assert dataclasses.replace(method, shuffle=False)._order(batch()).tolist() == list(range(BATCH))


@pytest.mark.parametrize(
    ("field", "changes"),
    [("queue", {"queue": 40}), ("queue", {"queue": 6}), ("bn_groups", {"bn_groups": 5}), ("bn_groups", {"bn_groups": 24})],
)
def test_sizes_that_do_not_fit_are_refused(make: Callable[..., Any], field: str, changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match=rf"config\.method\.{field}={changes[field]} ") as caught:
        make(**changes)
    assert "\n" not in str(caught.value)
    advice = int(str(caught.value).rpartition(" ")[2])
    make(**{field: advice})


def test_micro_batches_count_for_the_groups(make: Callable[..., Any]) -> None:
    found = config(bn_groups=4)
    found.accumulate = 2
    with pytest.raises(UserError, match=r"config\.method\.bn_groups=4 .*: use 2"):
        create_method(found, FACTS)


@pytest.mark.parametrize("momentum", [1.0, -0.1, float("nan")])
def test_a_momentum_outside_of_0_to_1_is_refused(momentum: float) -> None:
    with pytest.raises(UserError, match=r"config\.method\.momentum"):
        check_config(config(momentum=momentum))


def test_the_recipes_are_the_authors() -> None:
    two, one = (load_config(tiny.CONFIGS / "pretrain_moco.py", f"version={version}") for version in (2, 1))
    assert (two.batch_size, two.epochs, two.optimizer.learning_rate, two.optimizer.weight_decay) == (256, 200, 0.03, 1e-4)
    assert (two.method.queue, two.method.momentum, two.method.temperature, two.method.layers) == (65536, 0.999, 0.2, 2)
    assert (two.augment.crop_area, two.augment.hue, two.augment.blur_probability) == ((0.2, 1.0), 0.1, 0.5)
    assert (one.method.temperature, one.method.layers, one.augment.hue, one.augment.blur_probability) == (0.07, 1, 0.4, 0.0)
    assert (one.optimizer.schedule, one.optimizer.milestones, one.augment.jitter_probability) == ("step", (120.0, 160.0), 1.0)
    small = load_config(tiny.CONFIGS / "pretrain_moco.py", "preset=cifar10")
    assert (small.optimizer.learning_rate, small.optimizer.weight_decay, small.method.queue) == (0.06, 5e-4, 4096)
    odd = load_config(tiny.CONFIGS / "pretrain_moco.py", "preset=folder,batch_size=96")
    create_method(odd, DataFacts(1000, None, 96, 10))
    with pytest.raises(UserError, match="version"):
        load_config(tiny.CONFIGS / "pretrain_moco.py", "version=3")
