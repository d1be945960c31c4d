"""The file of a folder's features: row by row the name of an image and its features, as `.npz`, `.parquet` or `.csv`."""

import contextlib
import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float32, Int32

from jigclu_jax.atomic_file import write_file
from jigclu_jax.data.sources.npz_file import read_array
from jigclu_jax.errors import UserError, one_line

FORMATS = ("npz", "parquet", "csv")
_NAMES_AT_ONCE = 4096


class Embeddings(NamedTuple):
    """Names, features and labels (-1: none) of images, in the order of their source."""

    names: list[str]
    features: Float32[np.ndarray, "n d"]
    labels: Int32[np.ndarray, " n"]


def write_embeddings(path: epath.Path, parts: Iterable[Embeddings], rows: int, dim: int) -> None:
    """Write the parts one after the other, so that only one of them is in memory; the file is whole or not there.

    Raises:
      UserError: `.parquet` without the package pyarrow.
    """
    kind, partial = path.suffix[1:], f".{path.name}.partial"
    if kind == "npz":
        write_file(path, lambda file: _write_npz(file, parts, rows, dim), partial=partial)
    elif kind == "csv":
        write_file(path, lambda file: _write_csv(file, parts, dim), partial=partial)
    else:
        arrow, parquet = _pyarrow(path)
        write_file(path, lambda file: _write_parquet(file, parts, arrow, parquet), partial=partial)


def read_embeddings(path: epath.PathLike) -> Embeddings:
    """What `write_embeddings` wrote.

    Raises:
      UserError: no such file, or it cannot be read.
    """
    root = epath.Path(path).expanduser()
    if not root.exists() or root.is_dir():
        raise UserError(f"{root}: no such file of features: give the features.npz of an embed job")
    try:
        with root.open("rb") as file:
            return _checked(*_columns_of(root, file))
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes a reader raise
        raise UserError(f"{root}: cannot be read as a file of features ({one_line(error)}): write it again by the job embed") from None


def _columns_of(path: epath.Path, file: Any) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, features and labels in a file; raises whatever a damaged one makes its reader raise."""
    if path.suffix == ".npz":
        with np.load(file, allow_pickle=False) as archive:
            names, features, labels = (read_array(archive, name) for name in ("name", "features", "label"))
        return names.tolist(), features, labels
    if path.suffix == ".parquet":
        table = _pyarrow(path)[1].read_table(file)
        features = np.stack(table["features"].to_numpy(zero_copy_only=False)).astype(np.float32)
        return table["name"].to_pylist(), features, table["label"].to_numpy().astype(np.int32)
    text = io.TextIOWrapper(file, "utf-8", newline="")
    rows = list(csv.reader(text))[1:]
    text.detach()  # the file is closed by its own context
    return [row[0] for row in rows], np.array([row[2:] for row in rows], np.float32), np.array([row[1] for row in rows], np.int32)


def _checked(names: Any, features: np.ndarray, labels: np.ndarray) -> Embeddings:
    """The three; ValueError where they are not what the job writes."""
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise ValueError("its names are no list of texts")
    if features.ndim != 2 or features.dtype != np.float32 or not len(names) == len(features) == len(labels):
        raise ValueError(f"{len(names)} names beside features {features.dtype}{list(features.shape)}")
    return Embeddings(names, features, labels)


def _write_npz(file: Any, parts: Iterable[Embeddings], rows: int, dim: int) -> None:
    """Names and labels are small and kept; the features go through, behind a header that tells their number beforehand."""
    names: list[str] = []
    labels: list[np.ndarray] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with _entry(archive, "features", "<f4", (rows, dim)) as target:
            for part in parts:
                target.write(np.ascontiguousarray(part.features, "<f4").tobytes())
                names += part.names
                labels.append(part.labels)
        width = max([1, *map(len, names)])  # of a text in NumPy's arrays, 4 bytes a character
        with _entry(archive, "name", f"<U{width}", (len(names),), zipfile.ZIP_DEFLATED) as target:
            for begin in range(0, len(names), _NAMES_AT_ONCE):
                target.write(np.array(names[begin : begin + _NAMES_AT_ONCE], f"<U{width}").tobytes())
        with _entry(archive, "label", "<i4", (len(names),)) as target:
            target.write(np.concatenate([*labels, np.zeros(0, np.int32)]).astype("<i4").tobytes())


@contextlib.contextmanager
def _entry(archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], compression: int = zipfile.ZIP_STORED) -> Iterator[Any]:
    """The part of an `.npz` file that holds an array, its header written; without the time, so that equal features are equal files."""
    entry = zipfile.ZipInfo(f"{name}.npy")
    entry.compress_type = compression
    with archive.open(entry, "w", force_zip64=True) as target:
        np.lib.format.write_array_header_1_0(target, {"descr": dtype, "fortran_order": False, "shape": shape})
        yield target


def _write_csv(file: Any, parts: Iterable[Embeddings], dim: int) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "label", *(f"f{i}" for i in range(dim))])
    for part in parts:
        writer.writerows([name, int(label), *map(repr, row.tolist())] for name, label, row in zip(*_columns(part), strict=True))
    text.flush()
    text.detach()


def _write_parquet(file: Any, parts: Iterable[Embeddings], arrow: Any, parquet: Any) -> None:
    schema = arrow.schema([("name", arrow.string()), ("label", arrow.int32()), ("features", arrow.list_(arrow.float32()))])
    with parquet.ParquetWriter(file, schema) as writer:
        for part in parts:
            columns = [part.names, part.labels, list(part.features)]
            writer.write_table(arrow.table(dict(zip(schema.names, columns, strict=True)), schema=schema))


def _columns(part: Embeddings) -> tuple[Iterator[Any], ...]:
    return iter(part.names), iter(part.labels), iter(part.features)


def _pyarrow(path: epath.Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: .parquet needs the package pyarrow: pip install pyarrow, or choose npz or csv") from None
    return pyarrow, pyarrow.parquet
