"""The pipeline as a whole: labels against pixels, the same batches whatever runs them, and errors as they reach a person."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from data.batches import CROP, PAPER, STILL, Images, crop, flat, montage, photographs, sampler
from data.pictures import coded, natural
from ml_collections import ConfigDict
from named_errors import raises_naming
from PIL import Image

from jigclu_jax.config import pipeline_config, source_config
from jigclu_jax.data.augment.crops import crop_patches, resize_and_centre_crop
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.input.cells import crop_parameters
from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.input.order import epoch_order
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.input.preview import stages
from jigclu_jax.data.input.stream import BatchStream
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View
from jigclu_jax.errors import ImageError, UserError
from jigclu_jax.train.supply import smallest_side

Batch = dict[str, Any]


def settings(**changes: object) -> ConfigDict:
    config = pipeline_config()
    config.update({"min_side": 1, **changes})
    return config


def stream_of(source: Images, view: View, data: ConfigDict | None = None, *, labelled: bool = False, **more: int) -> BatchStream:
    data = data or settings()
    reader = ImageReader(source, data.min_side, data.on_error, "data")
    steps = {name: more.pop(name) for name in ("start_step", "stop_step") if name in more}
    return train_batches(reader, data, sampler(len(source), view, **more), labelled=labelled, **steps)


def montages(source: Images, law: Law = CROP, *, data: ConfigDict | None = None, **more: int) -> BatchStream:
    shape = {name: more.pop(name) for name in ("grid", "group") if name in more}
    side = more.pop("side", 12)
    return stream_of(source, montage(side, law, overlap=0.0 if law is STILL else 0.3, **shape), data, **more)


def crops(source: Images, law: Law = CROP, *, data: ConfigDict | None = None, **more: int) -> BatchStream:
    more = {"seed": 0, "batch_size": 4, "steps_per_epoch": -(-len(source) // 4)} | more
    return stream_of(source, crop(24, law), data, labelled=True, **more)


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(map(flat, first), map(flat, second), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def joined(shares: list[list[Batch]]) -> list[Batch]:
    """The batches of several hosts as those of one."""
    return [{name: np.concatenate([flat(part)[name] for part in parts]) for name in flat(parts[0])} for parts in zip(*shares, strict=True)]


def cells(batch: Batch, grid: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(cluster, position, patch) of every cell."""
    own = batch["montage"]
    side = own["image"].shape[1] // grid
    for i, row, column in itertools.product(range(len(own["image"])), range(grid), range(grid)):
        patch = own["image"][i, row * side : (row + 1) * side, column * side : (column + 1) * side]
        yield int(own["cluster"][i, row, column]), int(own["position"][i, row, column]), patch


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize("group", [0, 4])
def test_every_patch_is_found_by_its_labels(grid: int, group: int) -> None:
    """Coded images of odd sizes: the colour of a patch tells image, column and row, and must agree with the label grids."""
    rng = np.random.default_rng(0)
    source = Images([coded(index, grid, *rng.integers(4 * grid, 75, 2)) for index in range(19)])
    for step, batch in enumerate(montages(source, STILL, grid=grid, side=8, group=group, stop_step=4)):
        order = epoch_order(5, step // 2, 19)[step % 2 * 8 :][:8]
        seen = set()
        for cluster, location, patch in cells(batch, grid):
            colour = np.median(patch.reshape(-1, 3), axis=0)
            assert colour.tolist() == [order[cluster], 20 * (location // grid), 20 * (location % grid)]
            seen.add((cluster, location))
        assert seen == set(itertools.product(range(8), range(grid * grid)))
        if group:
            assert all(
                cluster // group == i // group for i, grids in enumerate(batch["montage"]["cluster"]) for cluster in grids.reshape(-1)
            )


@pytest.mark.parametrize("grid", [2, 3, 5])
def test_tiny_images_are_enlarged_when_allowed(grid: int) -> None:
    sizes = [(1, 1), (3, 200), (200, 3), (2, 2), (5, 1), (4, 7), (1, 9), (6, 6)]
    source = Images([np.full((height, width, 3), 10 * i, np.uint8) for i, (height, width) in enumerate(sizes)])
    law = dataclasses.replace(PAPER, jitter_probability=0.0, grayscale_probability=0.0)
    for step, batch in enumerate(montages(source, law, grid=grid, side=6, stop_step=3)):
        for cluster, _, patch in cells(batch, grid):
            assert (patch == 10 * epoch_order(5, step, 8)[cluster]).all()


def test_montages_hold_the_augmented_patches_of_their_examples() -> None:
    """The whole way against the single steps: geometry, draws, Pillow's crops (no colour, which has its own tests)."""
    source = photographs(20)
    for step, batch in enumerate(montages(source, CROP, stop_step=4)):
        epoch, order = step // 2, epoch_order(5, step // 2, 20)
        for cluster, location, patch in cells(batch, 2):
            example = int(order[step % 2 * 8 + cluster])
            image = source.read(example)
            parameters = crop_parameters(montage(12, CROP), 0, 5, epoch, [example], [(image.shape[1], image.shape[0])])
            np.testing.assert_array_equal(patch, crop_patches(image, parameters, 12)[location])


def test_shapes_and_dtypes() -> None:
    about = {"example": ((8,), "int32"), "epoch": ((8,), "int32"), "mask": ((8,), "bool")}
    batch = flat(next(montages(photographs(9))))
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == about | {
        "montage/image": ((8, 24, 24, 3), "uint8"),
        "montage/cluster": ((8, 2, 2), "int32"),
        "montage/position": ((8, 2, 2), "int32"),
        "montage/location": ((8, 2, 2), "int32"),
    }
    batch = flat(next(crops(photographs(9), batch_size=8, steps_per_epoch=2)))
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == about | {
        "crop/image": ((8, 1, 24, 24, 3), "uint8"),
        "label": ((8,), "int32"),
    }


def test_several_views_of_one_image_come_in_one_batch() -> None:
    """Montages of 2 x 2 and of 4 x 4, and two single crops: each as it would come alone under its own number."""
    source = photographs(8)
    views = (montage(12), View("small", 6, CROP, 4, 0.3, montage=4), View("pair", 20, PAPER, repeats=2))
    reader = ImageReader(source, 1, "stop", "data")
    batch = next(train_batches(reader, settings(), sampler(8, *views)))
    assert batch["small"]["image"].shape == (8, 24, 24, 3) and batch["pair"]["image"].shape == (8, 2, 20, 20, 3)
    np.testing.assert_array_equal(batch["montage"]["image"], next(montages(source, PAPER))["montage"]["image"])
    pair = batch["pair"]["image"]
    assert (pair[:, 0] != pair[:, 1]).any()
    sizes = [(source.read(example).shape[1], source.read(example).shape[0]) for example in batch["example"]]
    parameters = crop_parameters(views[1], 1, 5, 0, batch["example"].tolist(), sizes)
    for cluster, position, patch in cells({"montage": batch["small"]}, 4):
        box = parameters.box[16 * cluster + position]
        image = source.read(int(batch["example"][cluster]))[box[1] : box[3], box[0] : box[2]]
        expected = np.asarray(Image.fromarray(image).resize((6, 6), Image.Resampling.BILINEAR)).astype(int)
        assert min(np.abs(expected - patch).max(), np.abs(expected[:, ::-1] - patch).max()) <= 1


def test_crops_of_an_image_repeat_its_regions() -> None:
    source = photographs(8)
    view = View("twice", 12, PAPER, 2, 0.3, repeats=2, montage=2)
    batch = next(stream_of(source, view))["twice"]
    assert batch["image"].shape == (16, 24, 24, 3) and sorted(np.unique(batch["position"])) == list(range(8))
    with pytest.raises(UserError, match="batch_size"):
        stream_of(source, View("third", 12, PAPER, montage=3))


def test_threads_change_nothing() -> None:
    source = photographs(20)
    reference = list(montages(source, data=settings(threads=1), stop_step=5))
    for threads in (2, 7):
        assert_same(list(montages(source, data=settings(threads=threads), stop_step=5)), reference)


@pytest.mark.parametrize(("hosts", "law"), [(2, PAPER), (4, CROP)], ids=["2", "4"])
def test_hosts_change_nothing(hosts: int, law: Law) -> None:
    source = photographs(20)
    shares = [list(montages(source, law, group=2, stop_step=3, host=host, hosts=hosts)) for host in range(hosts)]
    assert_same(joined(shares), list(montages(source, law, group=2, stop_step=3)))


def test_hosts_change_nothing_for_crops() -> None:
    source = photographs(9)

    shares = [list(crops(source, stop_step=6, host=host, hosts=2)) for host in range(2)]
    assert_same(joined(shares), list(crops(source, stop_step=6)))


@pytest.mark.parametrize("start", [1, 2, 5])
def test_starting_later_gives_the_same_batches(start: int) -> None:
    source = photographs(20)
    assert_same(list(montages(source, start_step=start, stop_step=6)), list(montages(source, stop_step=6))[start:])


def test_start_far_into_training_is_immediate() -> None:
    batch = next(montages(photographs(20), start_step=10**6, stop_step=10**6 + 1))
    assert_same([batch], [next(montages(photographs(20), start_step=10**6))])


def test_seed_and_epoch_change_the_patches() -> None:
    source = photographs(8)
    first, second = list(montages(source, stop_step=2))
    assert (first["montage"]["image"] != second["montage"]["image"]).any()
    assert (next(montages(source, seed=6))["montage"]["image"] != first["montage"]["image"]).any()


@pytest.mark.parametrize("hosts", [1, 2])
def test_an_epoch_has_every_example_once_but_the_dropped_remainder(hosts: int) -> None:
    source = Images([np.full((8, 8, 3), index, np.uint8) for index in range(19)])
    for epoch in range(2):
        seen = []
        for host in range(hosts):
            span = {"start_step": 2 * epoch, "stop_step": 2 * epoch + 2, "host": host, "hosts": hosts}
            for batch in montages(source, STILL, group=4, **span):
                seen += [int(patch[0, 0, 0]) for _, _, patch in cells(batch, 2)]
        values, counts = np.unique(seen, return_counts=True)
        assert len(values) == 16 and (counts == 4).all()
        assert set(values.tolist()) == set(epoch_order(5, epoch, 19)[:16].tolist())


def test_crops_keep_the_partial_batch_and_mask_the_rest() -> None:
    source = Images([np.full((8, 8, 3), 3 * index, np.uint8) for index in range(10)], [index for index in range(10)])
    stream = crops(source, stop_step=6)
    for epoch in range(2):
        batches = [next(stream) for _ in range(3)]
        assert [batch["mask"].tolist() for batch in batches] == [[True] * 4, [True] * 4, [True, True, False, False]]
        labels = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
        assert labels.tolist() == epoch_order(0, epoch, 10).tolist()
        for batch in batches:
            for image, label, real in zip(batch["crop"]["image"], batch["label"], batch["mask"], strict=True):
                assert (image == 3 * label).all() if real else label == -1 and not image.any()
    with pytest.raises(StopIteration):
        next(stream)


def test_crops_may_be_coloured_and_need_no_labels() -> None:
    source = Images([natural(40, 40, seed) for seed in range(4)])
    batch, plain = next(crops(source, PAPER)), next(crops(source))
    assert "label" not in batch and batch["mask"].all() and (batch["crop"]["image"] != plain["crop"]["image"]).any()


def evaluation(**changes: object) -> ConfigDict:
    config = source_config()
    config.update({"resize": 20, "crop": 16, **changes})
    return config


def test_a_line_of_pixels_is_not_enlarged_as_a_whole() -> None:
    """It would take 272 GB."""
    line = np.random.default_rng(0).integers(0, 256, (65_001, 1, 3), np.uint8)
    expected = resize_and_centre_crop(line[32_496:32_505], 1024, 32)
    np.testing.assert_array_equal(resize_and_centre_crop(line, 1024, 32), expected)


@pytest.mark.parametrize("hosts", [1, 2])
def test_evaluation_is_torchvisions_resize_and_centre_crop_in_order(hosts: int) -> None:
    source = photographs(10)
    shares = [list(EvalStream(source, evaluation(), batch_size=4, host=host, hosts=hosts)) for host in range(hosts)]
    assert {len(share) for share in shares} == {3}
    batches = [{name: np.concatenate([share[i][name] for share in shares]) for name in shares[0][0]} for i in range(3)]
    mask = np.concatenate([batch["mask"] for batch in batches])
    assert mask.tolist() == [True] * 10 + [False] * 2
    assert np.concatenate([batch["label"] for batch in batches]).tolist() == [index % 3 for index in range(10)] + [-1, -1]
    images = np.concatenate([batch["image"] for batch in batches])
    for index in range(10):
        image = source.read(index)
        height, width = image.shape[:2]
        size = (20, int(20 * height / width)) if width <= height else (int(20 * width / height), 20)
        left, top = round((size[0] - 16) / 2), round((size[1] - 16) / 2)
        expected = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).crop((left, top, left + 16, top + 16))
        np.testing.assert_array_equal(images[index], np.asarray(expected))


def test_one_damaged_image_stops_with_its_name_in_one_line() -> None:
    source = Images([natural(20, 20, seed) if seed != 3 else None for seed in range(8)])
    for open_stream in (
        lambda: montages(source),
        lambda: crops(source, stop_step=2),
        lambda: EvalStream(source, evaluation(), batch_size=4),
    ):
        with pytest.raises(ImageError, match=r"^images\[3\]: damaged image: mend it, or set (eval_)?data\.on_error=skip"):
            list(open_stream())


def test_damaged_images_give_way_to_the_next_usable_one_when_skipped() -> None:
    broken = {3, 4, 7}
    source = Images([np.full((20, 20, 3), index, np.uint8) if index not in broken else None for index in range(8)])
    stream = montages(source, STILL, data=settings(on_error="skip"), stop_step=1)
    batch = next(stream)
    order = epoch_order(5, 0, 8)
    replaced = {index: {3: 5, 4: 5, 7: 0}.get(index, index) for index in range(8)}
    for cluster, _, patch in cells(batch, 2):
        assert (patch == replaced[int(order[cluster])]).all()
    assert batch["example"].tolist() == [replaced[int(index)] for index in order], "the images that were read"
    assert stream.skipped == {index: f"images[{index}]: damaged image" for index in broken}
    evaluated = EvalStream(source, evaluation(on_error="skip"), batch_size=8)
    batch = next(evaluated)
    assert batch["mask"].tolist() == [index not in broken for index in range(8)], "an image left out counts for nothing"
    assert all(batch["image"][index, 0, 0, 0] == index for index in range(8) if index not in broken)
    assert set(evaluated.skipped) == broken


def test_skipping_is_the_same_for_threads_and_hosts() -> None:
    source = Images([natural(30, 30, seed) if seed % 4 else None for seed in range(16)])
    reference = list(montages(source, data=settings(on_error="skip", threads=1), group=2, stop_step=3))
    shares = [list(montages(source, data=settings(on_error="skip"), group=2, stop_step=3, host=h, hosts=2)) for h in range(2)]
    assert_same(joined(shares), reference)


def test_no_usable_image_is_an_error_even_when_skipped() -> None:
    with raises_naming("8 images of images"):
        next(montages(Images([None] * 8), data=settings(on_error="skip")))


def test_small_images_are_refused_by_name_enlarged_or_skipped() -> None:
    source = Images([natural(*((20, 9) if seed == 2 else (20, 20)), seed) for seed in range(8)])
    with pytest.raises(ImageError, match=r"^images\[2\]: 9 x 20 pixels, .* 12: set data\.min_side=1 .*data\.on_error=skip") as caught:
        next(montages(source, data=settings(min_side=12)))
    assert "\n" not in str(caught.value)
    stream = montages(source, data=settings(min_side=12, on_error="skip"))
    next(stream)
    assert list(stream.skipped) == [2]
    next(montages(source, data=settings(min_side=9)))
    with pytest.raises(ImageError, match=r"images\[2\].*eval_data\.min_side=1"):
        list(EvalStream(source, evaluation(min_side=10), batch_size=8))
    # without a say of the config, patches must not be enlarged, and single crops may be
    assert smallest_side(settings(min_side=-1), [montage(12), crop(24)]) == 12 and smallest_side(settings(min_side=-1), [crop(24)]) == 1


def test_an_unexpected_error_keeps_its_type_and_traceback() -> None:
    class Faulty(Images):
        def read(self, index: int) -> np.ndarray:
            raise ZeroDivisionError("deep inside")

    with pytest.raises(ZeroDivisionError, match="deep inside") as caught:
        next(montages(Faulty([None] * 8)))
    assert any(entry.name == "read" for entry in caught.traceback)


def test_stream_ends_closes_and_stays_closed() -> None:
    stream = montages(photographs(8), stop_step=1)
    assert iter(stream) is stream and len(list(stream)) == 1
    endless = montages(photographs(8))
    next(endless)
    endless.close()
    endless.close()
    with pytest.raises(StopIteration):
        next(endless)


@pytest.mark.parametrize(
    ("view", "named"),
    [
        (montage(12, overlap=0.6), "overlap=0.6"),
        (montage(12, overlap=-0.1), "overlap=-0.1"),
        (montage(12, group=16), "shuffle_group to 8"),
        (crop(0), "image_size"),
    ],
)
def test_views_that_cannot_work_are_refused_before_anything_runs(view: View, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        stream_of(photographs(8), view)
    assert "\n" not in str(caught.value)


def test_other_arguments_that_cannot_work() -> None:
    source = photographs(8)
    calls: list[Callable[[], object]] = [
        lambda: montages(source, hosts=3),
        lambda: montages(source, steps_per_epoch=2),
        lambda: montages(source, batch_size=16, steps_per_epoch=2),
        lambda: montages(source, data=settings(on_error="ignore")),
        lambda: EvalStream(source, evaluation(crop=0), batch_size=8),
        lambda: EvalStream(source, evaluation(), batch_size=3, hosts=2),
    ]
    for call in calls:
        with pytest.raises(UserError):
            call()


def test_stages_show_what_a_batch_holds() -> None:
    source = photographs(9)
    batch = next(montages(source, PAPER))
    examples = batch["example"].tolist()
    found = [stages(montage(12), 0, 5, 0, example, source.read(example)) for example in examples]
    for cluster, position, patch in cells(batch, 2):
        np.testing.assert_array_equal(patch, found[cluster].patches[position])
    for stage in found:
        box = stage.parameters.box
        assert (box[:, :2] >= stage.regions[:, :2]).all() and (box[:, 2:] <= stage.regions[:, 2:]).all()
        left, top, right, bottom = box[0]
        crop = np.asarray(Image.fromarray(stage.image[top:bottom, left:right]).resize((12, 12), Image.Resampling.BILINEAR))
        assert np.abs(stage.crops[0].astype(int) - crop).max() <= 1, "Pillow's crop, or what the fast resize makes of it"
