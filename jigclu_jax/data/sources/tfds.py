"""Source of a prepared TensorFlow Datasets data set, with random access; downloads and prepares nothing.

array_record files have random access of their own; tfrecord files get it from an index (`tfrecord_index.py`). Records are
parsed by TFDS's own protocol buffers and images decoded by `decode.py`: TensorFlow is needed for neither.
"""

import concurrent.futures
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int32, UInt8

from jigclu_jax.data.sources.cache import cached
from jigclu_jax.data.sources.decode import decode_rgb, gray_to_rgb
from jigclu_jax.data.sources.tfds_lookup import find_builder, find_features, find_split, is_encoded_image, is_text, prepare_command
from jigclu_jax.data.sources.tfds_records import ArrayRecordRecords, Records, TfrecordRecords
from jigclu_jax.errors import ImageError, UserError, one_line

T = TypeVar("T")
_CHUNK = 1024  # records that a thread takes at a time
_THREADS = 16  # for a pass over all records
_KEYS = ("file_name", "filename", "image/file_name", "image/filename", "key", "id", "image_id")  # features that name an image


class TfdsSource:
    """One split, or part of one, of a prepared TFDS data set; made by `open_tfds`.

    Labels lie in the records, so the first access to `labels` reads every record of the split once (as long as reading the
    files takes); they are then kept in the cache folder. Pretraining does not ask for them, unless `limit` does. `white` is the sample
    that is white in encoded images of more than 8 bits, 0: as they say.
    """

    def __init__(self, name: str, records: Records, features: Mapping[str, Any], image: str, label: str | None) -> None:
        self.name, self.white = name, 0.0
        self._records = records
        self._image, self._label = image, label
        self._parse_raw = None if is_encoded_image(features[image]) else _raw_parser(image, features[image])
        self.classes: tuple[str, ...] | None = None if label is None else tuple(features[label].names)
        self._labels: Int32[np.ndarray, " n"] | None = None
        self._key = next((key for key in _KEYS if key in features and is_text(features[key])), None)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def labels(self) -> Int32[np.ndarray, " n"] | None:
        """Labels of all images, int32[n], or None; reads the whole split unless the cache has them."""
        if self._label is None:
            return None
        with self._lock:
            if self._labels is None:
                key = f"{self._records.key}\n{self._label}"
                self._labels = cached("labels", key, self._records.stamp(), self._gather_labels)["labels"]
            return self._labels

    @property
    def ids(self) -> tuple[str, ...] | None:
        """File names or keys of all images, None where the records have none; reads the whole split unless the cache has them."""
        if self._key is None:
            return None
        key = f"{self._records.key}\n{self._key}"
        return tuple(cached("ids", key, self._records.stamp(), self._gather_ids)["ids"].tolist())

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; raises ImageError naming the record and its file."""
        record, where = self._records.read(index), self.describe(index)
        if self._parse_raw is None:
            values = _parse(record, where)[self._image].bytes_list.value
            if len(values) != 1:
                raise ImageError(f"{where}: the record has no feature {self._image!r}")
            return decode_rgb(values[0], where, self.white)
        try:
            image = self._parse_raw(record)
        except Exception as error:  # TFDS re-raises whatever went wrong, with its own text
            raise ImageError(f"{where}: damaged record: {one_line(error)}") from error
        return image if image.shape[2] == 3 else gray_to_rgb(image[:, :, 0])

    def describe(self, index: int) -> str:
        """The file of image `index` and its number in there."""
        return self._records.describe(index)

    def _gather_labels(self) -> dict[str, np.ndarray]:
        key, count = self._label or "", len(self.classes or ())

        def label(feature: Mapping[str, Any], where: str) -> int:
            values = feature[key].int64_list.value
            if len(values) != 1 or not 0 <= values[0] < count:
                raise UserError(f"{where}: no label in its feature {key!r}: use a split that has labels")
            return int(values[0])

        return {"labels": np.array(self._gather(label), np.int32)}

    def _gather_ids(self) -> dict[str, np.ndarray]:
        key = self._key or ""

        def name(feature: Mapping[str, Any], where: str) -> str:
            values = feature[key].bytes_list.value
            if len(values) != 1:
                raise UserError(f"{where}: no name in its feature {key!r}: use data.fraction instead of a list")
            return values[0].decode("utf-8", "replace")

        return {"ids": np.array(self._gather(name), np.str_)}

    def _gather(self, extract: Callable[[Mapping[str, Any], str], T]) -> list[T]:
        """`extract` of every record, in order."""

        def one(index: int) -> T:
            where = self.describe(index)
            return extract(_parse(self._records.read(index, check=False), where), where)

        def several(start: int) -> list[T]:
            return [one(index) for index in range(start, min(start + _CHUNK, len(self)))]

        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            return [value for part in pool.map(several, range(0, len(self), _CHUNK)) for value in part]


def open_tfds(name: str, split: str, data_dir: str = "", white: float = 0.0) -> TfdsSource:
    """Opens a prepared TFDS data set: `name` ("cifar10", "imagenet2012:5.1.0", "ds/config:1.0.0") and `split`.

    split: a name, or TFDS's arithmetic on names ("train[:10%]", "train[5%:]", "train+test"). data_dir: where it was prepared
    ("" is TFDS's default; the folder of one version of a data set does too; gs:// works). white: the sample that is white in encoded
    images of more than 8 bits, 0: as they say. Raises UserError for an unknown
    name, a data set that is not prepared (with the command that does it), an unknown split (with those there), and a data
    set without images.
    """
    info = find_builder(name, data_dir).info
    title = name or info.full_name
    instructions = find_split(info, split, title)
    features, image, label = find_features(info, title)
    file_format = info.file_format.value if info.file_format else "tfrecord"
    if file_format == "tfrecord":
        records: Records = TfrecordRecords(instructions)
    elif file_format == "array_record":
        records = ArrayRecordRecords(instructions)
    else:
        raise UserError(f"{title}: prepared as {file_format}; array_record and tfrecord can be read: {prepare_command(title, data_dir)}")
    source = TfdsSource(f"{title}/{split}", records, features, image, label)
    source.white = white
    return source


def _parse(record: bytes, where: str) -> Mapping[str, Any]:
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        feature: Mapping[str, Any] = tf_example_pb2.Example.FromString(record).features.feature
    except Exception as error:  # DecodeError, whose module depends on the protobuf version
        raise ImageError(f"{where}: damaged: the record is not a tf.train.Example") from error
    return feature


def _raw_parser(key: str, feature: Any) -> Callable[[bytes], UInt8[np.ndarray, "h w c"]]:
    from tensorflow_datasets.core.example_parser import ExampleParserNp

    parser = ExampleParserNp({key: feature.get_serialized_info()})

    def parse(record: bytes) -> UInt8[np.ndarray, "h w c"]:
        image: np.ndarray = np.asarray(feature.decode_example_np(parser.parse_example(record)[key]), np.uint8).reshape(feature.shape)
        return image

    return parse
