"""Feature maps and features of an encoder agree, whatever the chunks; which workdirs hold a backbone."""

from pathlib import Path

import numpy as np
from named_errors import raises_naming
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax import load_encoder
from jigclu_jax.interop import to_torchvision
from jigclu_jax.train.checkpoint import read_checkpoint, stored_backbone


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


def test_a_probe_holds_the_backbone_that_it_probed(tmp_path: Path) -> None:
    folder = make_workdir(tmp_path / "probe", tiny_config("probe"), classes=("a", "b"))
    encoder, (_, meta, tree) = load_encoder(folder), read_checkpoint(folder)
    assert encoder.params["conv1"]["kernel"].shape == (3, 3, 3, 3) and encoder.classes == ("a", "b")
    del tree["params"]["backbone"]  # as one of version 0.1.0
    with raises_naming("here", "probe"):
        stored_backbone(tree, meta, "params", "here")


def test_a_file_of_weights_gives_the_features_of_its_workdir(tmp_path: Path) -> None:
    run = make_workdir(tmp_path / "run")
    encoder = load_encoder(run)
    np.savez(tmp_path / "weights.npz", **to_torchvision(encoder.params, encoder.stats), fc=np.zeros(3))
    found = load_encoder(tmp_path / "weights.npz")
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(found(images), encoder(images))
    assert found.step is None and any("fc" in line for line in found.report) and not encoder.report
