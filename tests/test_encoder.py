"""Feature maps and features of an encoder agree, whatever the chunks."""

from pathlib import Path

import numpy as np
from tiny_checkpoint import make_workdir

from jigclu_jax import load_encoder


def test_maps_of_the_four_stages(tmp_path: Path) -> None:
    encoder = load_encoder(make_workdir(tmp_path / "run"))
    images = np.random.default_rng(0).integers(0, 255, (3, 34, 32, 3), np.uint8)
    maps = encoder.maps(images)
    assert encoder.strides == (1, 2, 4, 8) and encoder.channels[-1] == encoder.dim
    for found, stride, channels in zip(maps, encoder.strides, encoder.channels, strict=True):
        assert found.dtype == np.float32 and found.shape == (3, -(-34 // stride), 32 // stride, channels)
    np.testing.assert_allclose(maps[-1].mean((1, 2)), encoder(images), rtol=1e-5, atol=1e-6)
    for whole, chunks in zip(maps, encoder.maps(images, batch_size=2), strict=True):
        np.testing.assert_allclose(chunks, whole, rtol=1e-4, atol=1e-5)
    assert [found.shape for found in encoder.maps(images[:0])] == [(0, *found.shape[1:]) for found in maps]
    assert encoder(images[:0]).shape == (0, encoder.dim)
