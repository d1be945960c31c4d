"""Where pictures are made changes nothing of what a run sees: batches of host, device and resident."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from data.batches import PAPER, crop, flat, montage, sampler
from data.pictures import natural

from jigclu_jax.config import pipeline_config
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.input.preview import stages
from jigclu_jax.data.input.sampler import Sampler
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View, tile_view
from jigclu_jax.device import resident
from jigclu_jax.device.feed import HOST_FEED, device_feed, prepared_batch
from jigclu_jax.device.mesh import create_mesh, to_device
from jigclu_jax.errors import ImageError, UserError

pytestmark = pytest.mark.usefixtures("needs_tensorflow")  # the host's pictures are made by it
STEPS, BATCH = 3, 8
# every sort of view: montages, montages of another grid, two crops of the whole image, all with solarize; tiles of a part of the image
LAW = dataclasses.replace(PAPER, solarize_probability=0.3)
FRAME = Law(crop_area=(0.4, 1.0), grayscale_probability=0.5, flip_probability=0.5)
VIEWS = (
    montage(16, LAW),
    View("small", 8, LAW, 4, 0.3, montage=4),
    View("pair", 24, LAW, repeats=2),
    tile_view("tiles", 8, Law(flip_probability=0.2), FRAME),
)


def source() -> ArraySource:
    images = np.stack([natural(24, 24, index) for index in range(STEPS * BATCH + 3)])
    return ArraySource(images, np.arange(len(images)) % 5, [str(i) for i in range(5)])


def of(views: tuple[View, ...], *, partial: bool = False, **hosts: int) -> Sampler:
    return sampler(len(source()), *views, seed=3, steps_per_epoch=STEPS + partial, **hosts)


def host_batches(which: Sampler, count: int = STEPS) -> list[dict[str, Any]]:
    reader = ImageReader(source(), 1, "stop", "data")
    return list(train_batches(reader, pipeline_config(), which, stop_step=count, labelled=True))


def prepared(feed: Any, batch: dict[str, Any]) -> dict[str, np.ndarray]:
    return flat(jax.device_get(prepared_batch(feed, to_device(batch, create_mesh(jax.devices()[:1])))))


@pytest.mark.parametrize("partial", [False, True])
def test_device_makes_the_hosts_pictures(partial: bool) -> None:
    views = VIEWS if not partial else (montage(16, LAW), VIEWS[2])
    which = of(views, partial=partial)
    reader = ImageReader(source(), 1, "stop", "data")
    found = [list(CellStream(reader, which, threads=threads, stop_step=STEPS + partial, labelled=True)) for threads in (1, 3)]
    for one, several in zip(*found, strict=True):
        assert all((flat(one)[name] == flat(several)[name]).all() for name in flat(one)), "whatever the number of threads"
    for host, raw in zip(host_batches(which, STEPS + partial), found[0], strict=True):
        ours, theirs = prepared(device_feed(views), raw), prepared(HOST_FEED, host)
        assert ours.keys() == theirs.keys()
        for name in ours:
            if name.endswith("image"):
                # a pixel at solarize's threshold may fall to either side
                assert np.abs(ours[name].astype(int) - theirs[name]).mean() < 0.1
                assert np.abs(flat(raw)[name].astype(int) - theirs[name]).mean() > 5, "the colours were left to the device"
            else:
                np.testing.assert_array_equal(ours[name], theirs[name])


def test_resident_makes_the_hosts_pictures() -> None:
    """From the same random numbers: what differs is the rounding of crops, in float32, carried through the colours."""
    images, mesh = source(), create_mesh(jax.devices()[:1])
    which = of(VIEWS)
    rows, facts = resident.load(images, 24, ImageReader(images, 1, "stop", "data"), mesh)
    feed = resident.resident_feed(rows, facts, VIEWS, side=24, seed=3, mesh=mesh, dispatch=1)
    for host, numbers in zip(host_batches(which), IndexStream(which, images.labels, 0, STEPS), strict=True):
        ours, theirs = prepared(feed, numbers), prepared(HOST_FEED, host)
        assert ours.keys() == theirs.keys()
        for name in ours:
            if name.endswith("image"):
                assert np.abs(ours[name].astype(int) - theirs[name]).mean() < 1.0
            else:
                np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("place", ["host", "device", "resident"])
def test_a_mirrored_location_is_where_the_picture_says(place: str) -> None:
    """Images that brighten to the right: a patch's level tells its column, and the side to which it brightens whether it was flipped."""
    off = {f"{name}_probability": 0.0 for name in ("jitter", "grayscale", "blur")}
    view = dataclasses.replace(montage(16, dataclasses.replace(PAPER, crop_area=(0.9, 1.0), **off)), mirrored=True)
    ramp = np.broadcast_to(np.linspace(10, 240, 32)[None, :, None], (32, 32, 3)).astype(np.uint8)
    images, mesh = ArraySource(np.stack([ramp] * 2 * BATCH), None, None), create_mesh(jax.devices()[:1])
    which, reader = sampler(len(images), view, seed=3), ImageReader(images, 1, "stop", "data")
    feed, batches = HOST_FEED, train_batches(reader, pipeline_config(), which, stop_step=2)
    if place == "device":
        feed, batches = device_feed((view,)), CellStream(reader, which, threads=1, stop_step=2)
    elif place == "resident":
        feed = resident.resident_feed(*resident.load(images, 32, reader, mesh), (view,), side=32, seed=3, mesh=mesh, dispatch=1)
        batches = IndexStream(which, None, 0, 2)
    flipped = 0
    for batch in batches:
        own = {name: array.reshape(-1) for name, array in prepared(feed, batch).items() if not name.endswith("image")}
        cells = prepared(feed, batch)["montage/image"].reshape(-1, 2, 16, 2, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 16, 16, 3)
        column, flip = cells.mean((1, 2, 3)) > 125, cells[:, :, 8:].mean((1, 2, 3)) < cells[:, :, :8].mean((1, 2, 3))
        np.testing.assert_array_equal(column, own["montage/position"] // 2)
        np.testing.assert_array_equal(own["montage/location"] // 2, column ^ flip)
        np.testing.assert_array_equal(own["montage/location"] % 2, own["montage/position"] % 2)
        flipped += int(flip.sum())
    assert 16 < flipped < 48, "of 64 patches"


def test_resident_numbers_are_the_hosts_on_any_number_of_hosts() -> None:
    views = (montage(16, group=4),)
    whole = list(IndexStream(of(views), None, stop_step=2 * STEPS))
    for epoch in range(2):
        own = whole[epoch * STEPS : (epoch + 1) * STEPS]
        assert len(np.unique(np.concatenate([batch["example"] for batch in own]))) == STEPS * BATCH, "every image once an epoch"
        assert all((batch["epoch"] == epoch).all() for batch in own)
    parts = [list(IndexStream(of(views, host=host, hosts=2), None, stop_step=STEPS)) for host in range(2)]
    for ours, first, second in zip(whole[:STEPS], *parts, strict=True):
        for name, values in flat(ours).items():
            np.testing.assert_array_equal(values, np.concatenate([flat(first)[name], flat(second)[name]]))
    later = list(IndexStream(of(views), None, start_step=2, stop_step=STEPS))
    np.testing.assert_array_equal(later[0]["example"], whole[2]["example"])


def test_resident_crops_keep_the_last_partial_batch_and_its_labels() -> None:
    which = of((crop(24),), partial=True)
    numbers = list(IndexStream(which, source().labels, 0, STEPS + 1))
    for ours, host in zip(numbers, host_batches(which, STEPS + 1), strict=True):
        np.testing.assert_array_equal(ours["label"], host["label"])
        np.testing.assert_array_equal(ours["mask"], host["mask"])
    assert ours["mask"].sum() == 3 and (ours["label"][~ours["mask"]] == -1).all()


def test_an_epoch_in_an_order_of_choice_is_the_same_in_all_places() -> None:
    order = np.array([5] * 10 + list(range(17)))
    which = of((crop(24),)).in_order(lambda epoch: order)
    asked = [batch["example"] for batch in host_batches(which)]
    assert np.concatenate(asked).tolist() == order[: STEPS * BATCH].tolist()
    np.testing.assert_array_equal(asked, [batch["example"] for batch in IndexStream(which, None, 0, STEPS)])


def test_a_patch_with_known_parameters_is_the_hosts_in_every_place() -> None:
    """Crop, colour and blur with forced parameters, square images stored as they are: beside Pillow and TensorFlow."""
    from jigclu_jax.config import pretrain_config
    from jigclu_jax.jobs.reporting import patches_by_place

    config, images = pretrain_config(), source()
    config.data.resident_side = 24
    found = stages(montage(16), 0, 1, 2, 5, images.read(5))
    places = patches_by_place(config, ImageReader(images, 1, "stop", "data"), montage(16), found)
    assert places.keys() == {"host", "device", "resident"}
    assert np.abs(places["device"].astype(int) - places["host"]).mean() < 0.02
    assert np.abs(places["resident"].astype(int) - places["host"]).mean() < 0.5, "one rounding of the crop, carried through the colours"


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
    which = sampler(12, crop(24), batch_size=4)
    stream = CellStream(ImageReader(images, 1, "skip", "data"), which, threads=2, stop_step=3, labelled=True)
    host = train_batches(ImageReader(images, 1, "skip", "data"), pipeline_config(), which, stop_step=3, labelled=True)
    for ours, theirs in zip(stream, host, strict=True):
        np.testing.assert_array_equal(ours["label"], theirs["label"])
        np.testing.assert_array_equal(ours["example"], theirs["example"])
        assert not {3, 4} & set(ours["example"].tolist()), "the image that was read"
    assert set(stream.skipped) == {3, 4}
    stopping = CellStream(ImageReader(images, 1, "stop", "data"), which, threads=2, stop_step=3)
    with pytest.raises(ImageError, match=r"damaged.*data\.on_error=skip"):
        list(stopping)
    assert next(stopping, None) is None, "a stream that broke has ended"


@pytest.mark.parametrize("place", ["host", "device", "resident"])
def test_an_image_that_an_epoch_repeats_is_not_shown_with_the_same_crops(place: str) -> None:
    images, mesh, view = source(), create_mesh(jax.devices()[:1]), crop(24)
    again = np.array([3, 5, 3, 3, 1, 5, *range(len(images) - 6)])
    which, reader = of((view,)).in_order(lambda _: again), ImageReader(images, 1, "stop", "data")
    feed, batches = HOST_FEED, train_batches(reader, pipeline_config(), which, stop_step=1)
    if place == "device":
        feed, batches = device_feed((view,)), CellStream(reader, which, threads=1, stop_step=1)
    elif place == "resident":
        feed = resident.resident_feed(*resident.load(images, 24, reader, mesh), (view,), side=24, seed=3, mesh=mesh, dispatch=1)
        batches = IndexStream(which, None, 0, 1)
    found = prepared(feed, next(iter(batches)))
    example, picture = found["example"], found["crop/image"].astype(int)
    np.testing.assert_array_equal(example, again[:BATCH])
    assert (found["epoch"] == 0).all() and "draw" not in found
    for image in np.unique(example):
        own = picture[example == image]
        assert all(np.abs(own[first] - own[second]).max() > 5 for first in range(len(own)) for second in range(first))


def test_the_first_appearance_of_an_image_is_drawn_as_ever() -> None:
    again = np.array([3, 5, 3, 3, 1, 5, *range(len(source()) - 6)])
    which = of((crop(24),))
    np.testing.assert_array_equal(which.draws(STEPS), np.ones(BATCH))
    draws = which.in_order(lambda _: again).draws(STEPS)
    assert draws[0] == draws[1] == draws[4] == 1 and len({1, draws[2], draws[3]}) == 3 and draws[5] == draws[2]
    assert draws.max() < 2**31
