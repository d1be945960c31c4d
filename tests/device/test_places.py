"""Where pictures are made changes nothing of what a run sees: batches of host, device and resident."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data.pictures import natural
from ml_collections import ConfigDict

from jigclu_jax.config import montage_augment_config, pretrain_config
from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.data.augment.parameters import UNIFORMS, Draws, draw, draws_from_uniforms
from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.input.plan import plan_for
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.device import resident
from jigclu_jax.device.feed import device_feed, prepared_batch
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.errors import ImageError, UserError

STEPS, BATCH = 3, 8


def settings(**data: Any) -> ConfigDict:
    config = pretrain_config()
    config.data.update({"image_size": 32, "threads": 2} | data)
    return config


def source(labels: bool = False) -> ArraySource:
    images = np.stack([natural(24, 24, index) for index in range(STEPS * BATCH + 3)])
    return ArraySource(images, np.arange(len(images)) % 5 if labels else None, [str(i) for i in range(5)] if labels else None)


def host_batches(config: ConfigDict, view: str, count: int = STEPS, **options: Any) -> list[dict[str, np.ndarray]]:
    images = source(labels=view == "crop")
    steps = STEPS if view == "montage" else STEPS + 1
    options = {"seed": 3, "batch_size": BATCH, "steps_per_epoch": steps, "stop_step": count} | options
    return list(train_batches(images, config.data, config.augment, view=view, **options))


@pytest.mark.parametrize("view", ["montage", "crop"])
def test_device_makes_the_hosts_pictures(view: str) -> None:
    config = settings(grid=2 if view == "montage" else 1)
    feed, mesh = device_feed(config.augment, config.method.grid), create_mesh(jax.devices()[:1])
    expected = host_batches(config, view)
    images = source(labels=view == "crop")
    steps = STEPS if view == "montage" else STEPS + 1
    options = {"view": view, "seed": 3, "batch_size": BATCH, "steps_per_epoch": steps, "stop_step": STEPS}
    plan = plan_for(images, config.data, config.augment, view, BATCH, steps, 0, 1)
    reader = ImageReader(images, plan.min_side, "stop", "data")
    found = [list(CellStream(reader, config.augment, plan, threads=threads, **options)) for threads in (1, 3)]
    for one, several in zip(*found, strict=True):
        assert all((one[name] == several[name]).all() for name in one), "whatever the number of threads"
    for host, raw in zip(expected, found[0], strict=True):
        batch = jax.device_get(prepared_batch(feed, to_device(raw, mesh)))
        assert batch.keys() == host.keys()
        for name in host.keys() - {"image"}:
            np.testing.assert_array_equal(batch[name], host[name])
        assert np.abs(batch["image"].astype(int) - host["image"]).mean() < 0.02
        assert np.abs(raw["image"].astype(int) - host["image"]).mean() > 5, "the colours were left to the device"


def test_resident_grids_are_the_hosts() -> None:
    """The same image, at the same place of the same montage, of every step; for two hosts their halves."""
    config = settings(shuffle_group=4)
    plan = plan_for(source(), config.data, config.augment, "montage", BATCH, STEPS, 0, 1)
    options = {"view": "montage", "seed": 3, "batch_size": BATCH, "steps_per_epoch": STEPS}
    whole = list(IndexStream(len(source()), None, plan, stop_step=2 * STEPS, **options))
    for ours, host in zip(whole, host_batches(config, "montage", 2 * STEPS), strict=True):
        np.testing.assert_array_equal(ours["cluster"], host["cluster"])
        np.testing.assert_array_equal(ours["location"], host["location"])
    for epoch in range(2):
        seen = [np.unique(batch["example"]) for batch in whole[epoch * STEPS : (epoch + 1) * STEPS]]
        assert len(np.unique(np.concatenate(seen))) == STEPS * BATCH, "every example once an epoch"
        assert all((batch["epoch"] == epoch).all() for batch in whole[epoch * STEPS : (epoch + 1) * STEPS])
    half = plan_for(source(), config.data, config.augment, "montage", BATCH, STEPS, 0, 2)
    parts = [list(IndexStream(len(source()), None, half, stop_step=STEPS, host=host, hosts=2, **options)) for host in range(2)]
    for ours, first, second in zip(whole[:STEPS], *parts, strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name], np.concatenate([first[name], second[name]]))
    later = list(IndexStream(len(source()), None, plan, start_step=2, stop_step=STEPS, **options))
    np.testing.assert_array_equal(later[0]["example"], whole[2]["example"])


def test_resident_crops_keep_the_last_partial_batch_and_its_labels() -> None:
    config = settings(grid=1, image_size=24)
    images = source(labels=True)
    plan = plan_for(images, config.data, config.augment, "crop", BATCH, STEPS + 1, 0, 1)
    stream = IndexStream(len(images), images.labels, plan, view="crop", seed=3, batch_size=BATCH, steps_per_epoch=STEPS + 1, stop_step=4)
    for ours, host in zip(list(stream), host_batches(config, "crop", STEPS + 1), strict=True):
        np.testing.assert_array_equal(ours["label"], host["label"])
        np.testing.assert_array_equal(ours["mask"], host["mask"])
    assert ours["mask"].sum() == 3 and (ours["label"][~ours["mask"]] == -1).all()


def test_a_resident_patch_with_known_parameters_is_the_hosts() -> None:
    """Crop, colour and blur with forced parameters, square images stored as they are: beside Pillow and TensorFlow."""
    from jigclu_jax.jobs.reporting import patches_by_place

    config, images = settings(resident_side=24), source()
    image = images.read(5)
    draws = draw(config.augment, 1, 2, 5, patch_boxes(24, 24, 2, 0.3))
    places = patches_by_place(config, ImageReader(images, 1, "stop", "data"), image, draws)
    assert places.keys() == {"host", "device", "resident"}
    unflipped = np.where(draws.flip[:, None, None, None], places["host"][:, :, ::-1], places["host"])
    assert np.abs(places["device"].astype(int) - places["host"]).mean() < 0.02
    assert np.abs(places["resident"].astype(int) - places["host"]).mean() < 0.5, "one rounding of the crop, carried through the colours"
    assert np.abs(unflipped.astype(int) - places["host"]).mean() > 1 or not draws.flip.any()


def test_the_laws_are_the_same_in_both_number_formats() -> None:
    """Over thousands of draws: moments and quantiles of every parameter, host float64 beside device float32 with its own numbers."""
    config, count = montage_augment_config(), 4000
    cells = np.tile(np.array([[10, 20, 310, 260]], np.int32), (count, 1))
    host = draws_from_uniforms(config, np.random.default_rng(0).random((count, UNIFORMS)), cells)
    device = jax.jit(lambda u, c: draws_from_uniforms(config, u, c, jnp).__dict__)(
        jax.random.uniform(jax.random.key(0), (count, UNIFORMS)), jnp.asarray(cells)
    )
    for name, ours in columns(host).items():
        theirs = columns(Draws(**device))[name]
        scale = max(float(np.ptp(ours)), 1e-6)
        for share in (0.05, 0.25, 0.5, 0.75, 0.95):
            if name not in ("jitter", "grayscale", "blur", "flip", "first"):
                assert abs(np.quantile(ours, share) - np.quantile(theirs, share)) < 0.04 * scale, (name, share)
        assert abs(ours.mean() - theirs.mean()) < 0.035 * scale, name
        assert abs(ours.std() - theirs.std()) < 0.035 * scale, name


def columns(draws: Draws) -> dict[str, np.ndarray]:
    box = np.asarray(draws.box, np.float64)
    width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    hue = (np.asarray(draws.hue) + 128) % 256
    plain = {name: np.asarray(getattr(draws, name), np.float64) for name in ("jitter", "grayscale", "blur", "sigma", "flip")}
    factors = {f"factor {index}": np.asarray(draws.factors, np.float64)[:, index] for index in range(3)}
    first = np.asarray(draws.order)[:, 0].astype(np.float64)
    return plain | factors | {"area": width * height, "aspect": np.log(width / height), "left": box[:, 0], "hue": hue, "first": first}


def test_equal_uniforms_give_equal_parameters() -> None:
    config = montage_augment_config()
    u = np.random.default_rng(1).random((500, UNIFORMS)).astype(np.float32)
    cells = np.tile(np.array([[0, 0, 26, 26]], np.int32), (500, 1))
    host, device = draws_from_uniforms(config, u, cells), draws_from_uniforms(config, jnp.asarray(u), jnp.asarray(cells), jnp)
    # a product that lies on a rounding edge may fall to either side in another order of operations
    assert (np.asarray(device.box) == host.box).all(axis=1).mean() > 0.98
    np.testing.assert_array_equal(device.order, host.order)
    np.testing.assert_allclose(device.factors, host.factors, atol=2**-13)


@pytest.mark.parametrize(
    ("shapes", "side"),
    [
        ([(24, 24)] * 3, 24),
        ([(24, 24), (40, 30), (40, 30)], 32),  # one small image says nothing of the others
        ([(24, 24), (24, 24), (20, 20)], 32),
        ([(40, 40)] * 3, 32),
        ([(24, 20)] * 3, 32),
    ],
)
def test_the_stored_side_is_the_images_own_where_all_are_one_small_square(shapes: list[tuple[int, int]], side: int) -> None:
    class Shapes:
        name, classes, labels = "shapes", None, None

        def describe(self, index: int) -> str:
            return str(index)

        def __len__(self) -> int:
            return len(shapes)

        def read(self, index: int) -> np.ndarray:
            return np.zeros((*shapes[index], 3), np.uint8)

    reader = ImageReader(Shapes(), 1, "stop", "data")
    assert resident.resident_side(reader, 0, 32) == side
    assert resident.resident_side(reader, 48, 32) == 48


def test_images_that_do_not_fit_are_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_host_memory", lambda: 20_000)
    mesh = create_mesh(jax.devices()[:1])
    images = source()
    with pytest.raises(UserError, match=r"27 images of 24 x 24 pixels take 0\.00 GiB a device.*resident_side to at most 13, data\.limit"):
        resident.load(images, 24, ImageReader(images, 1, "stop", "data"), mesh)


def test_device_batches_leave_out_what_is_damaged_and_know_its_label() -> None:
    """A damaged image stops the run and is named; skipped, the next one stands in with its own label, as on the host."""

    class Damaged(ArraySource):
        def read(self, index: int) -> np.ndarray:
            if index in (3, 4):
                raise ImageError(f"image {index}: damaged")
            return super().read(index)

    images = Damaged(np.stack([natural(24, 24, index) for index in range(12)]), np.arange(12) % 5, [str(i) for i in range(5)])
    config = settings(grid=1, image_size=24, on_error="skip")
    plan = plan_for(images, config.data, config.augment, "crop", 4, 3, 0, 1)
    options = {"view": "crop", "seed": 0, "batch_size": 4, "steps_per_epoch": 3, "stop_step": 3}
    stream = CellStream(ImageReader(images, 1, "skip", "data"), config.augment, plan, threads=2, **options)
    host = train_batches(images, config.data, config.augment, **options)
    for ours, theirs in zip(stream, host, strict=True):
        np.testing.assert_array_equal(ours["label"], theirs["label"])
    assert set(stream.skipped) == {3, 4}
    stopping = CellStream(ImageReader(images, 1, "stop", "data"), config.augment, plan, threads=2, **options)
    with pytest.raises(ImageError, match=r"damaged.*data\.on_error=skip"):
        list(stopping)
    assert next(stopping, None) is None, "a stream that broke has ended"
