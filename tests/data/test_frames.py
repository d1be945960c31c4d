"""Frames: the part of an image that is cropped, mirrored and made gray once, before its regions are cut; and tiles with gaps in it."""

import dataclasses

import numpy as np
import pytest
from data.batches import PAPER
from data.pictures import natural

from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.data.augment.crops import crop_patches
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.parameters import Parameters
from jigclu_jax.data.input.cells import crop_parameters, crop_regions, draw_frames
from jigclu_jax.data.input.preview import stages
from jigclu_jax.data.view import View, tile_view
from jigclu_jax.errors import UserError

SIZES = [(255, 255), (300, 200), (90, 400), (32, 32), (3, 3), (9, 200)]
COUNT = 400
WHOLE = Law(crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0))


def tiles(law: Law = WHOLE, frame: Law = WHOLE, **fields: object) -> View:
    return dataclasses.replace(tile_view("tiles", 64, law, frame), **fields)


def many(view: View, size: tuple[int, int]) -> tuple[Parameters, Parameters, np.ndarray]:
    """Crops, frames and regions of many images of one size."""
    given = view, 0, 3, 1, range(COUNT), [size] * COUNT
    frames = draw_frames(*given)
    assert frames is not None
    return crop_parameters(*given), frames, crop_regions(view, [size] * COUNT, frames)


def test_tiles_are_the_papers_64_of_85_pixels_anywhere_in_their_cells() -> None:
    crops, _, regions = many(tiles(), (255, 255))
    box = crops.box.reshape(COUNT, 9, 4)
    assert (regions.reshape(COUNT, 9, 4) == patch_boxes(255, 255, 3, 0.0)).all()
    assert (box[..., 2:] - box[..., :2] == 64).all()
    within = (crops.box - regions)[:, :2]
    assert within.min() == 0 and within.max() == 21, "a jitter of up to 21 pixels"
    assert abs(within.mean() - 10.5) < 0.5
    # a column's tiles lie apart from the next one's by 21 pixels in the mean, and never overlap
    gaps = box[:, 3:6, 0] - box[:, 0:3, 2]
    assert gaps.min() >= 0 and abs(gaps.mean() - 21) < 1


@pytest.mark.parametrize("size", SIZES)
def test_tiles_keep_to_their_cells_and_to_the_frames_aspect(size: tuple[int, int]) -> None:
    view = tiles(frame=Law(crop_area=(0.3, 0.9), flip_probability=0.5))
    crops, frames, regions = many(view, size)
    assert (crops.box[:, :2] >= regions[:, :2]).all() and (crops.box[:, 2:] <= regions[:, 2:]).all()
    sides, cells = crops.box[:, 2:] - crops.box[:, :2], regions[:, 2:] - regions[:, :2]
    np.testing.assert_array_equal(sides, np.maximum(np.rint(0.75 * cells), 1), "the same share of both sides, whatever the image's aspect")
    assert (frames.box >= 0).all() and (frames.box[:, 2:] <= np.array(size)).all()


def test_every_crop_of_an_image_has_the_same_frame_and_images_have_others() -> None:
    view = tiles(frame=Law(crop_area=(0.3, 0.6), flip_probability=0.5, grayscale_probability=0.66))
    crops, frames, regions = many(view, (120, 90))
    assert len(np.unique(frames.box, axis=0)) > COUNT // 2
    for values, own in ((crops.flip, frames.flip), (crops.grayscale, frames.grayscale)):
        assert (values.reshape(COUNT, 9) == own[:, None]).all()
    assert abs(frames.flip.mean() - 0.5) < 0.1 and abs(frames.grayscale.mean() - 0.66) < 0.1
    for box, own in zip(frames.box, regions.reshape(COUNT, 9, 4), strict=True):
        assert own[:, :2].min(axis=0).tolist() == box[:2].tolist() and own[:, 2:].max(axis=0).tolist() == box[2:].tolist()


def test_a_mirrored_frame_is_cut_as_the_mirrored_image_would_be() -> None:
    """Flip before cutting: without jitter, tile i of the mirrored image, pixel for pixel."""
    image = natural(90, 90, 1)
    for flip in (0.0, 1.0):
        view = View("tiles", 30, WHOLE, 3, frame=dataclasses.replace(WHOLE, flip_probability=flip))
        found = crop_patches(image, crop_parameters(view, 0, 0, 0, [5], [(90, 90)]), 30)
        whole = image[:, ::-1] if flip else image
        for location, tile in enumerate(found):
            column, row = divmod(location, 3)
            np.testing.assert_array_equal(tile, whole[30 * row : 30 * row + 30, 30 * column : 30 * column + 30])


def test_a_tiles_own_flip_and_grayscale_come_on_top() -> None:
    own = Law(flip_probability=1.0, grayscale_probability=0.5)
    crops, frames, _ = many(tiles(own, Law(flip_probability=0.5, grayscale_probability=0.5)), (60, 60))
    assert (crops.flip.reshape(COUNT, 9) == ~frames.flip[:, None]).all()
    gray = crops.grayscale.reshape(COUNT, 9)
    assert gray[frames.grayscale].all() and abs(gray[~frames.grayscale].mean() - 0.5) < 0.1
    view = tiles(WHOLE, dataclasses.replace(WHOLE, grayscale_probability=1.0))
    assert view.colours.colours and not view.law.colours, "the program that works on colours is compiled for the frame's too"
    found = stages(view, 0, 0, 0, 3, natural(60, 60, 3))
    assert found.patches is not None and (found.patches == found.patches[..., :1]).all()


def test_a_view_without_a_frame_draws_what_it_drew() -> None:
    """The pictures of old seeds: a frame takes no random numbers of the crops."""
    plain = View("tiles", 64, PAPER, 3)
    square = dataclasses.replace(plain, frame=WHOLE)
    one, other = (crop_parameters(view, 0, 3, 1, [4, 9], [(90, 90)] * 2) for view in (plain, square))
    for name in ("box", "flip", "hue", "brightness", "sigma"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("frame", [PAPER, Law(solarize_probability=0.1), Law(blur_probability=0.5)])
def test_what_a_frame_cannot_do_is_refused(frame: Law) -> None:
    with pytest.raises(UserError, match="tiles"):
        tiles(frame=frame).check()
    with pytest.raises(UserError, match="mirrored"):
        tiles(mirrored=True).check()
