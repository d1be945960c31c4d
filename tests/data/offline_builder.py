"""A TFDS data set of 24 small pictures that is built without a network, in either file format."""

import io
import pathlib
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

CLASSES = ("red", "green", "blue")
SPLIT_SIZES = {"train": 18, "test": 6}


def picture(split: str, index: int) -> np.ndarray:
    """uint8[h, w, 3] noise, of another size for every index."""
    generator = np.random.Generator(np.random.Philox(key=[list(SPLIT_SIZES).index(split), index]))
    return generator.integers(0, 256, (8 + index, 12, 3), dtype=np.uint8)


def label_of(split: str, index: int) -> int:
    """The label of a picture."""
    return (index * 7 + len(split)) % len(CLASSES)


class OfflinePictures(tfds.core.GeneratorBasedBuilder):
    """Noise with labels; the record also has a mask, which sorts before "image", and a second ClassLabel."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=CLASSES),
                "a_mask": tfds.features.Image(shape=(None, None, 1)),
                "a_size": tfds.features.ClassLabel(names=("small", "large")),
                "number": np.int64,
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split):
        for index in range(SPLIT_SIZES[split]):
            file = io.BytesIO()
            Image.fromarray(picture(split, index)).save(file, "PNG")
            file.seek(0)
            yield (
                index,
                {
                    "image": file,
                    "label": label_of(split, index),
                    "a_mask": np.zeros((4, 4, 1), np.uint8),
                    "a_size": index % 2,
                    "number": index,
                },
            )


class OfflineArrays(tfds.core.GeneratorBasedBuilder):
    """Pictures without labels, stored as raw bytes and not as image files."""

    VERSION = tfds.core.Version("2.1.0")

    def _info(self) -> tfds.core.DatasetInfo:
        pixels = tfds.features.Tensor(shape=(9, 7, 3), dtype=np.uint8)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"pixels": pixels}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(5):
            yield index, {"pixels": np.full((9, 7, 3), index, np.uint8)}


class OfflineNamed(tfds.core.GeneratorBasedBuilder):
    """Pictures with file names in two configs, as `imagenet2012_subset` has them; `half` holds every second one."""

    VERSION = tfds.core.Version("5.0.0")
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name="all"), tfds.core.BuilderConfig(name="half")]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=CLASSES), "file_name": tfds.features.Text()}
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(0, SPLIT_SIZES["train"], 1 if self.builder_config.name == "all" else 2):
            yield (
                index,
                {"image": picture("train", index), "label": label_of("train", index), "file_name": f"n{index % 3}_{index}.JPEG"},
            )


class OfflineNumbers(tfds.core.GeneratorBasedBuilder):
    """No image at all."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"value": np.int64}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"value": 3}


def build(builder: type[tfds.core.GeneratorBasedBuilder], data_dir: pathlib.Path, file_format: str, config: str | None = None) -> None:
    """Prepares a data set under `data_dir`; asks no network."""
    builder(data_dir=str(data_dir), file_format=file_format, config=config).download_and_prepare()
