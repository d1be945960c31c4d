"""The pipeline as a whole: labels against pixels, the same batches whatever runs them, and errors as they reach a person."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from data.pictures import coded, natural
from ml_collections import ConfigDict
from PIL import Image

from jigclu_jax.config import crop_augment_config, montage_augment_config, pipeline_config, source_config
from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.data.augment.crops import crop_patches
from jigclu_jax.data.augment.parameters import draw
from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.input.order import epoch_order
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.input.preview import preview
from jigclu_jax.data.input.stream import BatchStream
from jigclu_jax.errors import ImageError, UserError

Batch = dict[str, np.ndarray]


class Images:
    """A source over a list of images of any sizes; None stands for one that does not decode."""

    name = "images"
    classes: tuple[str, ...] | None = None
    labels: np.ndarray | None = None

    def __init__(self, images: list[np.ndarray | None], labels: list[int] | None = None) -> None:
        self._images = images
        if labels is not None:
            self.labels = np.array(labels, np.int32)
            self.classes = tuple(str(label) for label in range(max(labels) + 1))

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> np.ndarray:
        image = self._images[index]
        if image is None:
            raise ImageError(f"{self.describe(index)}: damaged image")
        return image

    def describe(self, index: int) -> str:
        return f"images[{index}]"


def still() -> ConfigDict:
    """An augmentation that changes nothing: the whole patch, no colour."""
    config = crop_augment_config()
    config.update({"crop_area": (1.0, 1.0), "crop_aspect": (1.0, 1.0), "flip_probability": 0.0})
    return config


def settings(**changes: object) -> ConfigDict:
    config = pipeline_config()
    config.update({"image_size": 24, "min_side": 1, **changes})
    return config


def photographs(count: int) -> Images:
    rng = np.random.default_rng(0)
    return Images([natural(*rng.integers(30, 60, 2), seed) for seed in range(count)], [seed % 3 for seed in range(count)])


def montages(
    source: Images, augment: ConfigDict | None = None, *, batch_size: int = 8, data: ConfigDict | None = None, **more: int
) -> BatchStream:
    return train_batches(
        source,
        data or settings(),
        augment or montage_augment_config(),
        view="montage",
        seed=more.pop("seed", 5),
        batch_size=batch_size,
        steps_per_epoch=more.pop("steps_per_epoch", len(source) // batch_size),
        **more,
    )


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def cells(batch: Batch, grid: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """(cluster, location, patch) of every cell."""
    side = batch["image"].shape[1] // grid
    for i, row, column in itertools.product(range(len(batch["image"])), range(grid), range(grid)):
        patch = batch["image"][i, row * side : (row + 1) * side, column * side : (column + 1) * side]
        yield int(batch["cluster"][i, row, column]), int(batch["location"][i, row, column]), patch


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize("group", [0, 4])
def test_every_patch_is_found_by_its_labels(grid: int, group: int) -> None:
    """Coded images of odd sizes: the colour of a patch tells image, column and row, and must agree with the label grids."""
    rng = np.random.default_rng(0)
    source = Images([coded(index, grid, *rng.integers(4 * grid, 75, 2)) for index in range(19)])
    data = settings(grid=grid, image_size=8 * grid, overlap=0.0, shuffle_group=group)
    for step, batch in enumerate(montages(source, still(), data=data, stop_step=4)):
        order = epoch_order(5, step // 2, 19)[step % 2 * 8 :][:8]
        seen = set()
        for cluster, location, patch in cells(batch, grid):
            colour = np.median(patch.reshape(-1, 3), axis=0)
            assert colour.tolist() == [order[cluster], 20 * (location // grid), 20 * (location % grid)]
            seen.add((cluster, location))
        assert seen == set(itertools.product(range(8), range(grid * grid)))
        if group:
            assert all(cluster // group == i // group for i, grids in enumerate(batch["cluster"]) for cluster in grids.reshape(-1))


@pytest.mark.parametrize("grid", [2, 3, 5])
def test_tiny_images_are_enlarged_when_allowed(grid: int) -> None:
    sizes = [(1, 1), (3, 200), (200, 3), (2, 2), (5, 1), (4, 7), (1, 9), (6, 6)]
    source = Images([np.full((height, width, 3), 10 * i, np.uint8) for i, (height, width) in enumerate(sizes)])
    config = montage_augment_config()
    config.update({"jitter_probability": 0.0, "grayscale_probability": 0.0})
    data = settings(grid=grid, image_size=6 * grid)
    for step, batch in enumerate(montages(source, config, data=data, stop_step=3)):
        for cluster, _, patch in cells(batch, grid):
            assert (patch == 10 * epoch_order(5, step, 8)[cluster]).all()


def test_montages_hold_the_augmented_patches_of_their_examples() -> None:
    """The whole way against the single steps: geometry, draws, Pillow's crops (no colour, which has its own tests)."""
    source = photographs(20)
    for step, batch in enumerate(montages(source, crop_augment_config(), stop_step=4)):
        epoch, order = step // 2, epoch_order(5, step // 2, 20)
        for cluster, location, patch in cells(batch, 2):
            example = int(order[step % 2 * 8 + cluster])
            image = source.read(example)
            draws = draw(crop_augment_config(), 5, epoch, example, patch_boxes(image.shape[1], image.shape[0], 2, 0.3))
            np.testing.assert_array_equal(patch, crop_patches(image, draws, 12)[location])


def test_shapes_and_dtypes() -> None:
    batch = next(montages(photographs(9)))
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "image": ((8, 24, 24, 3), "uint8"),
        "cluster": ((8, 2, 2), "int32"),
        "location": ((8, 2, 2), "int32"),
    }
    crop = next(train_batches(photographs(9), settings(), crop_augment_config(), view="crop", seed=0, batch_size=4, steps_per_epoch=3))
    assert {name: (value.shape, value.dtype.name) for name, value in crop.items()} == {
        "image": ((4, 24, 24, 3), "uint8"),
        "label": ((4,), "int32"),
        "mask": ((4,), "bool"),
    }


def test_threads_change_nothing() -> None:
    source = photographs(20)
    reference = list(montages(source, stop_step=5))
    for threads in (1, 2, 7):
        assert_same(list(montages(source, data=settings(threads=threads), stop_step=5)), reference)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_change_nothing(hosts: int) -> None:
    source = photographs(20)
    data = settings(shuffle_group=2)
    reference = list(montages(source, data=data, stop_step=3))
    shares = [list(montages(source, data=data, stop_step=3, host=host, hosts=hosts)) for host in range(hosts)]
    joined = [{name: np.concatenate([share[step][name] for share in shares]) for name in reference[step]} for step in range(3)]
    assert_same(joined, reference)


def test_hosts_change_nothing_for_crops() -> None:
    source = photographs(9)

    def crops(**more: int) -> list[Batch]:
        stream = train_batches(
            source, settings(), crop_augment_config(), view="crop", seed=1, batch_size=4, steps_per_epoch=3, stop_step=6, **more
        )
        return list(stream)

    reference, shares = crops(), [crops(host=host, hosts=2) for host in range(2)]
    assert_same(
        [{name: np.concatenate([share[step][name] for share in shares]) for name in reference[step]} for step in range(6)], reference
    )


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
    assert (first["image"] != second["image"]).any()
    assert (next(montages(source, seed=6))["image"] != first["image"]).any()


@pytest.mark.parametrize("hosts", [1, 2])
def test_an_epoch_has_every_example_once_but_the_dropped_remainder(hosts: int) -> None:
    source = Images([np.full((8, 8, 3), index, np.uint8) for index in range(19)])
    for epoch in range(2):
        seen = []
        for host in range(hosts):
            span = {"start_step": 2 * epoch, "stop_step": 2 * epoch + 2, "host": host, "hosts": hosts}
            for batch in montages(source, still(), data=settings(shuffle_group=4), **span):
                seen += [int(patch[0, 0, 0]) for _, _, patch in cells(batch, 2)]
        values, counts = np.unique(seen, return_counts=True)
        assert len(values) == 16 and (counts == 4).all()
        assert set(values.tolist()) == set(epoch_order(5, epoch, 19)[:16].tolist())


def test_crops_keep_the_partial_batch_and_mask_the_rest() -> None:
    source = Images([np.full((8, 8, 3), 3 * index, np.uint8) for index in range(10)], [index for index in range(10)])
    stream = train_batches(source, settings(), crop_augment_config(), view="crop", seed=0, batch_size=4, steps_per_epoch=3, stop_step=6)
    for epoch in range(2):
        batches = [next(stream) for _ in range(3)]
        assert [batch["mask"].tolist() for batch in batches] == [[True] * 4, [True] * 4, [True, True, False, False]]
        labels = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
        assert labels.tolist() == epoch_order(0, epoch, 10).tolist()
        for batch in batches:
            for image, label, real in zip(batch["image"], batch["label"], batch["mask"], strict=True):
                assert (image == 3 * label).all() if real else label == -1 and not image.any()
    with pytest.raises(StopIteration):
        next(stream)


def test_crops_may_be_coloured_and_need_no_labels() -> None:
    source = Images([natural(40, 40, seed) for seed in range(4)])
    batch = next(train_batches(source, settings(), montage_augment_config(), view="crop", seed=0, batch_size=4, steps_per_epoch=1))
    plain = next(train_batches(source, settings(), crop_augment_config(), view="crop", seed=0, batch_size=4, steps_per_epoch=1))
    assert (batch["label"] == -1).all() and batch["mask"].all() and (batch["image"] != plain["image"]).any()


def evaluation(**changes: object) -> ConfigDict:
    config = source_config()
    config.update({"resize": 20, "crop": 16, **changes})
    return config


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
        lambda: train_batches(source, settings(), crop_augment_config(), view="crop", seed=0, batch_size=4, steps_per_epoch=2, stop_step=2),
        lambda: EvalStream(source, evaluation(), batch_size=4),
    ):
        with pytest.raises(ImageError, match=r"^images\[3\]: damaged image: mend it, or set (eval_)?data\.on_error=skip"):
            list(open_stream())


def test_damaged_images_give_way_to_the_next_usable_one_when_skipped() -> None:
    broken = {3, 4, 7}
    source = Images([np.full((20, 20, 3), index, np.uint8) if index not in broken else None for index in range(8)])
    stream = montages(source, still(), data=settings(on_error="skip"), stop_step=1)
    batch = next(stream)
    order = epoch_order(5, 0, 8)
    replaced = {index: {3: 5, 4: 5, 7: 0}.get(index, index) for index in range(8)}
    for cluster, _, patch in cells(batch, 2):
        assert (patch == replaced[int(order[cluster])]).all()
    assert stream.skipped == {index: f"images[{index}]: damaged image" for index in broken}
    evaluated = EvalStream(source, evaluation(on_error="skip"), batch_size=8)
    batch = next(evaluated)
    assert batch["mask"].tolist() == [index not in broken for index in range(8)], "an image left out counts for nothing"
    assert all(batch["image"][index, 0, 0, 0] == index for index in range(8) if index not in broken)
    assert set(evaluated.skipped) == broken


def test_skipping_is_the_same_for_threads_and_hosts() -> None:
    source = Images([natural(30, 30, seed) if seed % 4 else None for seed in range(16)])
    reference = list(montages(source, data=settings(on_error="skip", threads=1, shuffle_group=2), stop_step=3))
    shares = [list(montages(source, data=settings(on_error="skip", shuffle_group=2), stop_step=3, host=h, hosts=2)) for h in range(2)]
    assert_same([{name: np.concatenate([share[i][name] for share in shares]) for name in reference[i]} for i in range(3)], reference)


def test_no_usable_image_is_an_error_even_when_skipped() -> None:
    with pytest.raises(UserError, match="none of the 8 images of images can be used"):
        next(montages(Images([None] * 8), data=settings(on_error="skip")))


def test_small_images_are_refused_by_name_enlarged_or_skipped() -> None:
    source = Images([natural(*((20, 9) if seed == 2 else (20, 20)), seed) for seed in range(8)])
    with pytest.raises(ImageError, match=r"^images\[2\]: 9 x 20 pixels, .* 12: set data\.min_side=1 .*data\.on_error=skip") as caught:
        next(montages(source, data=settings(min_side=-1)))
    assert "\n" not in str(caught.value)
    stream = montages(source, data=settings(min_side=-1, on_error="skip"))
    next(stream)
    assert list(stream.skipped) == [2]
    next(montages(source, data=settings(min_side=9)))
    with pytest.raises(ImageError, match=r"images\[2\].*eval_data\.min_side=1"):
        list(EvalStream(source, evaluation(min_side=10), batch_size=8))
    # single crops enlarge whatever comes unless told otherwise
    next(train_batches(source, settings(min_side=-1), crop_augment_config(), view="crop", seed=0, batch_size=8, steps_per_epoch=1))


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
    ("changes", "message"),
    [
        ({"grid": 1}, "method.grid=1 makes no montage"),
        ({"grid": 5}, "20 and 25"),
        ({"overlap": 0.6}, "method.overlap=0.6"),
        ({"overlap": -0.1}, "method.overlap"),
        ({"shuffle_group": 16}, "set method.shuffle_group to 8"),
        ({"threads": -1}, "data.threads"),
        ({"workers": 2}, "data.workers=2: processes .* for data.augment=device"),
        ({"on_error": "ignore"}, "data.on_error=ignore"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_runs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        montages(photographs(8), data=settings(**changes))
    assert "\n" not in str(caught.value)


def test_other_arguments_that_cannot_work() -> None:
    source = photographs(8)
    bad_augment = montage_augment_config()
    bad_augment.hue = 3.0
    calls: list[Callable[[], object]] = [
        lambda: montages(source, hosts=3),
        lambda: montages(source, steps_per_epoch=2),
        lambda: montages(source, batch_size=16, steps_per_epoch=1),
        lambda: montages(source, bad_augment),
        lambda: EvalStream(source, evaluation(crop=0), batch_size=8),
        lambda: EvalStream(source, evaluation(), batch_size=3, hosts=2),
    ]
    for call in calls:
        with pytest.raises(UserError):
            call()


def test_preview_shows_what_the_first_batch_holds() -> None:
    source, augment = photographs(9), montage_augment_config()
    batch, stages = preview(source, settings(), augment, seed=5, count=4)
    assert batch["image"].shape == (4, 24, 24, 3) and len(stages) == 4
    for cluster, location, patch in cells(batch, 2):
        np.testing.assert_array_equal(patch, stages[cluster].patches[location])
    for stage in stages:
        assert (stage.boxes[:, :2] >= stage.cells[:, :2]).all() and (stage.boxes[:, 2:] <= stage.cells[:, 2:]).all()
        assert stage.crops.shape == stage.patches.shape == (4, 12, 12, 3)
        left, top, right, bottom = stage.boxes[0]
        crop = np.asarray(Image.fromarray(stage.image[top:bottom, left:right]).resize((12, 12), Image.Resampling.BILINEAR))
        candidates = [np.abs(stage.crops[0].astype(int) - candidate).max() for candidate in (crop, crop[:, ::-1])]
        assert min(candidates) <= 1, "Pillow's crop, or what the fast resize makes of it"
