"""The backbone's one pass: the encoder's features in the source's order, padding left out, kept on disk and found again."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from named_errors import raises_naming
from tiny_checkpoint import make_workdir

from jigclu_jax.config import eval_config
from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.fingerprint import fingerprint
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.encoder import load_encoder
from jigclu_jax.evals.bank_file import bank_key, read_bank, write_bank
from jigclu_jax.evals.features import FeatureBank, compile_features, compute_features

MODEL = {"arch": "resnet10", "stem": "small", "width": 0.05, "dtype": "float32"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> object:
    return load_encoder(make_workdir(tmp_path_factory.mktemp("backbone") / "run"))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (count, 32, 32, 3), np.uint8)


def test_features_are_the_encoders_and_padding_has_no_row(encoder: object) -> None:
    pixels, labels = images(13), np.arange(13) % 3
    config = eval_config()
    config.resize = config.crop = 32
    batches = EvalStream(ArraySource(pixels, labels), config, batch_size=8)  # 3 places of padding
    mesh = create_mesh(jax.devices()[:1])
    bank = compute_features(compile_features(MODEL, mesh), encoder.params, encoder.stats, batches, mesh)
    np.testing.assert_allclose(bank.features, encoder(pixels), rtol=1e-4, atol=1e-5)
    assert bank.features.dtype == np.float32 and bank.labels.tolist() == labels.tolist() and bank.indices.tolist() == list(range(13))


def test_what_is_masked_inside_a_batch_is_left_out_and_indices_tell(encoder: object) -> None:
    pixels = images(8)
    mask = np.array([1, 0, 1, 1, 0, 0, 1, 1], bool)

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for part in (slice(0, 4), slice(4, 8)):
            yield {"image": pixels[part], "label": np.arange(8, dtype=np.int32)[part], "mask": mask[part]}

    mesh = create_mesh(jax.devices()[:1])
    bank = compute_features(compile_features(MODEL, mesh), encoder.params, encoder.stats, batches(), mesh)
    assert bank.indices.tolist() == bank.labels.tolist() == [0, 2, 3, 6, 7]
    np.testing.assert_allclose(bank.features, encoder(pixels[mask]), rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_finite_are_named(encoder: object) -> None:
    mesh = create_mesh(jax.devices()[:1])
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), encoder.params)
    batch = {"image": images(4), "label": np.zeros(4, np.int32), "mask": np.ones(4, bool)}
    with raises_naming("image 0", "finite"):
        compute_features(compile_features(MODEL, mesh), broken, encoder.stats, iter([batch]), mesh)


def bank() -> FeatureBank:
    return FeatureBank(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.arange(5, dtype=np.int32), np.arange(5))


def test_a_bank_is_read_back_and_another_key_has_none(tmp_path: Path) -> None:
    assert read_bank(tmp_path, "a") is None
    assert write_bank(tmp_path / "new", "a", bank(), {"backbone": "x"}) is not None
    found = read_bank(tmp_path / "new", "a")
    assert found is not None and all(
        np.array_equal(getattr(found, name), getattr(bank(), name)) for name in ("features", "labels", "indices")
    )
    assert read_bank(tmp_path / "new", "b") is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npz"], "nothing half-written is left"


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_damaged_bank_is_computed_anew(tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture) -> None:
    path = write_bank(tmp_path, "a", bank(), {})
    assert path is not None
    path.write_bytes(path.read_bytes()[:keep])
    assert read_bank(tmp_path, "a") is None and "computed anew" in caplog.text


@pytest.mark.parametrize("field", ["features", "labels", "indices"])
@pytest.mark.parametrize("other", [np.float32(3), np.zeros(0, np.float32), np.zeros((1, 1, 1), np.int8), np.array(["x"])])
def test_a_bank_of_other_arrays_is_computed_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, other: np.ndarray) -> None:
    path = write_bank(tmp_path, "a", bank(), {})
    assert path is not None
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {field: other})
    assert read_bank(tmp_path, "a") is None and "computed anew" in caplog.text


def test_a_folder_that_takes_no_file_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert write_bank(tmp_path / "file", "a", bank(), {}) is None and "features are not kept" in caplog.text


def test_the_key_depends_on_everything() -> None:
    parts = {"weights": "w", "model": MODEL, "images": "i", "resize": 32}
    keys = {bank_key(**parts)} | {bank_key(**(parts | {name: "other"})) for name in parts}
    assert len(keys) == 5 and bank_key(**dict(reversed(parts.items()))) in keys


def test_the_fingerprint_tells_changed_images(tmp_path: Path) -> None:
    config = eval_config()
    pixels, labels = images(40), np.arange(40) % 4
    prints = [fingerprint(ArraySource(pixels, labels), config)]
    assert fingerprint(ArraySource(pixels.copy(), labels), config) == prints[0]
    prints.append(fingerprint(ArraySource(255 - pixels, labels), config))
    prints.append(fingerprint(ArraySource(pixels, labels[::-1]), config))
    prints.append(fingerprint(ArraySource(pixels[:-1], labels[:-1]), config))
    config.split = "other"
    prints.append(fingerprint(ArraySource(pixels, labels), config))
    file = tmp_path / "set.npz"
    for content in (b"a", b"bc"):
        file.write_bytes(content)
        config.path = str(file)
        prints.append(fingerprint(ArraySource(pixels, labels), config))
    assert len(set(prints)) == len(prints)
