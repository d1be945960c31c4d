"""Features of a folder: those of the encoder on each file, by name, in every format, and after a stop."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from etils import epath
from named_errors import raises_naming
from PIL import Image
from tiny_checkpoint import make_workdir

from jigclu_jax import load_encoder
from jigclu_jax.config import load_config
from jigclu_jax.data.sources.folder import FolderSource
from jigclu_jax.data.sources.opening import Subset
from jigclu_jax.errors import Preempted
from jigclu_jax.evals.embedding_file import Embeddings, read_embeddings, write_embeddings
from jigclu_jax.evals.neighbours import near_duplicates, neighbours
from jigclu_jax.jobs import embed
from jigclu_jax.train import counting
from jigclu_jax.train.workdir import read_result

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "embed.py"
COUNT = 11


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and a folder of 32 x 32 pictures, the last one equal to the first, one of them damaged."""
    root = tmp_path_factory.mktemp("embed")
    make_workdir(root / "run")
    pixels = np.random.default_rng(0).integers(0, 255, (COUNT, 32, 32, 3), np.uint8)
    pixels[-1] = pixels[0]
    for index, image in enumerate(pixels):
        folder = root / "photos" / f"class{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"ü{index}.png")
    (root / "photos" / "class0" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return root


def embedded(place: Path, workdir: Path, kind: str = "npz", **changes: Any) -> Path:
    config = load_config(CONFIG, f"resize=32,crop=32,format={kind}")
    config.checkpoint, config.data.path, config.data.on_error = str(place / "run"), str(place / "photos"), "skip"
    config.update({"eval_batch_size": 4, "part_images": 5, **changes})
    embed.run(config, workdir)
    return workdir / f"features.{kind}"


@pytest.fixture(scope="module")
def file(place: Path) -> Path:
    return embedded(place, place / "npz")


def test_features_are_the_encoders_on_each_file(place: Path, file: Path) -> None:
    encoder, found = load_encoder(place / "run"), read_embeddings(file)
    assert len(found.names) == COUNT and found.features.dtype == np.float32
    for name, features in zip(found.names, found.features, strict=True):
        with Image.open(place / "photos" / name) as image:
            np.testing.assert_allclose(features, encoder(np.asarray(image)[None])[0], rtol=1e-4, atol=1e-5)
    result = read_result(file.parent)
    assert result is not None and (result["images"], result["images_skipped"], result["dim"]) == (COUNT, 1, encoder.dim)
    assert not (file.parent / "parts").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_format_holds_the_same(place: Path, file: Path, tmp_path: Path, kind: str) -> None:
    other, found = read_embeddings(embedded(place, tmp_path / kind, kind)), read_embeddings(file)
    assert other.names == found.names
    np.testing.assert_array_equal(other.features, found.features)
    np.testing.assert_array_equal(other.labels, found.labels)


def test_a_stopped_job_goes_on(place: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    compute = embed.compute_features

    def counted(*arguments: Any) -> Any:
        bank = compute(*arguments)
        computed.append(1)
        monkeypatch.setattr(counting, "STOP", SimpleNamespace(requested=len(computed) == 1))
        return bank

    monkeypatch.setattr(embed, "compute_features", counted)
    with pytest.raises(Preempted):
        embedded(place, tmp_path / "run")
    assert not (tmp_path / "run" / "features.npz").exists()
    monkeypatch.setattr(counting, "STOP", SimpleNamespace(requested=False))
    (tmp_path / "run" / ".features.npz.partial").write_bytes(b"of a process that was killed")
    assert embedded(place, tmp_path / "run").read_bytes() == file.read_bytes()
    assert not (tmp_path / "run" / ".features.npz.partial").exists()
    assert len(computed) == 3  # parts of 5, 5 and 2 images, each once
    embedded(place, tmp_path / "run")
    assert len(computed) == 3, "a call of what is complete computes nothing"
    (tmp_path / "run" / "features.npz").write_bytes(file.read_bytes()[:-1])
    assert embedded(place, tmp_path / "run").read_bytes() == file.read_bytes() and len(computed) == 6


def test_neighbours_and_duplicates(file: Path) -> None:
    found = read_embeddings(file)
    unit = found.features / np.linalg.norm(found.features, axis=1, keepdims=True)
    first, last = (next(name for name in found.names if name.endswith(f"ü{index}.png")) for index in (0, COUNT - 1))
    nearest = neighbours(file, first, 3)
    assert nearest[0].name == last and nearest[0].similarity == pytest.approx(1, abs=1e-5) and len(nearest) == 3
    cosines = np.sort(unit @ unit[found.names.index(first)])[::-1]
    np.testing.assert_allclose([one.similarity for one in nearest], cosines[1:4], atol=1e-5)
    assert neighbours(file, found.features[0], 1)[0].similarity == pytest.approx(1, abs=1e-5)
    with raises_naming("'nobody.png'"):
        neighbours(file, "nobody.png")
    with raises_naming(str(file), "(3,)"):
        neighbours(file, np.zeros(3))


class Faiss:
    """What of faiss is used, in NumPy."""

    class IndexFlatIP:
        def __init__(self, dim: int) -> None:
            self.rows = np.zeros((0, dim), np.float32)

        def add(self, rows: np.ndarray) -> None:
            self.rows = np.concatenate([self.rows, rows])

        def search(self, asked: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            cosines = asked @ self.rows.T
            order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            return np.take_along_axis(cosines, order, 1), order


def test_faiss_is_taken_where_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_embeddings(file)
    name, unit = found.names[3], found.features / np.linalg.norm(found.features, axis=1, keepdims=True)
    monkeypatch.setitem(sys.modules, "faiss", None)
    own = neighbours(file, name, 4)
    real = Faiss.IndexFlatIP.search
    calls: list[int] = []
    monkeypatch.setattr(Faiss.IndexFlatIP, "search", lambda index, asked, k: calls.append(k) or real(index, asked, k))
    monkeypatch.setitem(sys.modules, "faiss", Faiss)
    theirs = neighbours(file, name, 4)
    assert calls == [5] and len({one.name for one in theirs}) == 4 and name not in {one.name for one in theirs}
    np.testing.assert_allclose([one.similarity for one in theirs], [one.similarity for one in own], atol=1e-6)
    named = [unit[3] @ unit[found.names.index(one.name)] for one in theirs]
    np.testing.assert_allclose([one.similarity for one in theirs], named, atol=1e-6)
    with raises_naming("k=0"):
        neighbours(file, found.features[0], 0)


def test_near_duplicates_are_each_told_once(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
    rows[8], rows[5] = 3 * rows[0], rows[2] + 0.05 * rows[3]
    names = [f"image {row}" for row in range(9)]
    path = epath.Path(tmp_path / "features.npz")
    write_embeddings(
        path, [Embeddings(names[:4], rows[:4], np.zeros(4, np.int32)), Embeddings(names[4:], rows[4:], np.zeros(5, np.int32))], 9, 16
    )
    np.testing.assert_array_equal(read_embeddings(path).features, rows)
    assert [(pair.first, pair.second) for pair in near_duplicates(path, 0.98)] == [("image 0", "image 8"), ("image 2", "image 5")]
    assert len(near_duplicates(path, -1.0)) == 9 * 8 // 2
    with raises_naming("threshold=2"):
        near_duplicates(path, 2.0)


def test_the_list_of_names_is_asked_for_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder makes it anew each time: asked for every image, a million images would take for ever."""
    asked: list[int] = []
    own = FolderSource.ids.fget

    def asked_for(source: FolderSource) -> tuple[str, ...]:
        asked.append(1)
        names: tuple[str, ...] = own(source)
        return names

    monkeypatch.setattr(FolderSource, "ids", property(asked_for))
    source = FolderSource(place / "photos")
    name = embed.names_of(Subset(source, np.arange(len(source))[::-1]))
    assert sorted(name(index) for index in range(len(source))) == sorted(own(source)) and name(0) == own(source)[-1]
    assert len(asked) <= 2  # Python 3.11 asks once more to see whether there is such a list


def test_long_names_stay_whole(tmp_path: Path) -> None:
    names = [f"{'a' * 2000}{row}" for row in range(3)]
    path = epath.Path(tmp_path / "features.npz")
    write_embeddings(path, [Embeddings(names, np.ones((3, 2), np.float32), np.zeros(3, np.int32))], 3, 2)
    assert read_embeddings(path).names == names and path.stat().length < 2000


@pytest.mark.parametrize("field", ["name", "features", "label"])
@pytest.mark.parametrize("other", [np.float32(3), np.zeros(0, np.float32), np.zeros((1, 1, 1), np.int8), np.array(["x"])])
def test_a_file_of_other_arrays_is_named(file: Path, tmp_path: Path, field: str, other: np.ndarray) -> None:
    with np.load(file) as archive:
        np.savez(tmp_path / "features.npz", **dict(archive) | {field: other})
    for ask in (lambda path: neighbours(path, "x"), near_duplicates):
        with raises_naming(str(tmp_path / "features.npz")):
            ask(tmp_path / "features.npz")
