"""Trains KerasHub's RetinaNet on JAX from an exported backbone, on a folder in VOC's layout, with COCO's AP by a callback that it lacks.

    pip install keras-hub jax pycocotools pillow
    python detection_kerashub.py --data BCCD --weights runs/exported/timm --out runs/bccd

`--weights` is the folder `timm` of an export (ResNet-18, -34, -50, -101, -152), which KerasHub converts itself. `--random` takes its
architecture alone. BatchNorm of the backbone keeps the statistics of pretraining (`--norm trained`: those of the batches); the heads
have GroupNorm. Images are resized to one size; SGD with a warm-up and a cosine, at 0.01 for 16 images a batch. Data: `voc_folder.py`.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
import keras_hub
import numpy as np
from PIL import Image
from voc_folder import MEAN, STD, average_precision, read_voc, split

FORMAT = "xyxy"


def picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """float32[height, width, 3], normalised as in pretraining."""
    image = Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    return ((np.asarray(image, np.float32) / 255 - MEAN) / STD).astype(np.float32)


class Batches(keras.utils.PyDataset):
    """Shuffled images, every second one mirrored, and their boxes in the resized image; an epoch is as many full batches as there are.

    A batch is float32[b, height, width, 3] with `boxes` float32[b, n, 4] and `labels` float32[b, n]; -1 fills up to the most boxes of an
    image.
    """

    def __init__(self, images: list[dict[str, Any]], size: tuple[int, int], batch: int, seed: int, workers: int) -> None:
        super().__init__(workers=workers)
        self.images, self.size, self.batch = images, size, batch
        self.most, self.rng = max(len(image["boxes"]) for image in images), np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def on_epoch_end(self) -> None:
        self.order, self.mirrored = self.rng.permutation(len(self.images)), self.rng.random(len(self.images)) < 0.5

    def __getitem__(self, number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        chosen = range(number * self.batch, (number + 1) * self.batch)
        boxes, labels = np.full((self.batch, self.most, 4), -1, np.float32), np.full((self.batch, self.most), -1, np.float32)
        pictures = []
        for row, place in enumerate(chosen):
            image = self.images[self.order[place]]
            pixels, found = picture(image["path"], self.size), image["boxes"] * self.scale(image)
            if self.mirrored[place]:
                pixels, found[:, [0, 2]] = pixels[:, ::-1], self.size[1] - found[:, [2, 0]]
            pictures.append(pixels)
            boxes[row, : len(found)], labels[row, : len(found)] = found, image["labels"]
        return np.stack(pictures), {"boxes": boxes, "labels": labels}

    def scale(self, image: dict[str, Any]) -> np.ndarray:
        """What the image's coordinates are multiplied by."""
        return np.array([self.size[1] / image["width"], self.size[0] / image["height"]] * 2, np.float32)


class CocoAP(keras.callbacks.Callback):
    """COCO's AP, AP50 and AP75 of held-out images after every `every` epochs, in the logs and so in the history."""

    def __init__(self, images: list[dict[str, Any]], classes: list[str], size: tuple[int, int], batch: int, every: int) -> None:
        super().__init__()
        self.images, self.classes, self.size, self.batch, self.every = images, classes, size, batch, every

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.every and epoch + 1 < self.params["epochs"]:
            return
        found = average_precision(self.images, self.detect(), self.classes)
        if logs is not None:
            logs.update(found)
        print(f"\nepoch {epoch + 1}: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)

    def detect(self) -> list[dict[str, Any]]:
        """Boxes in the images' own pixels, as `average_precision` takes them; the last batch is filled up: one shape is compiled."""
        found: list[dict[str, Any]] = []
        for first in range(0, len(self.images), self.batch):
            part = self.images[first : first + self.batch]
            pictures = np.zeros((self.batch, *self.size, 3), np.float32)
            for row, image in enumerate(part):
                pictures[row] = picture(image["path"], self.size)
            results = self.model.predict(pictures, batch_size=self.batch, verbose=0)
            for row, image in enumerate(part):
                boxes = results["boxes"][row] / np.tile((self.size[1] / image["width"], self.size[0] / image["height"]), 2)
                for number in range(int(results["num_detections"][row])):
                    x0, y0, x1, y1 = (float(value) for value in boxes[number])
                    label, score = int(results["labels"][row][number]), float(results["confidence"][row][number])
                    found.append({"image_id": image["id"], "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
        return found


def build(folder: str, random: bool, norm: str, classes: int, size: tuple[int, int]) -> keras_hub.models.RetinaNetObjectDetector:
    """The detector; its backbone's weights are those of timm's folder, or random."""
    encoder = keras_hub.models.ResNetBackbone.from_preset(folder, load_weights=not random)
    if norm == "frozen":
        for layer in encoder.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    pyramid = keras_hub.models.RetinaNetBackbone(encoder, min_level=3, max_level=7, use_p5=False, image_shape=(*size, 3))
    # for AP every box counts that is not nothing; by default those above 0.5 alone are given
    decoder = keras_hub.layers.NonMaxSuppression(FORMAT, from_logits=True, confidence_threshold=0.05, max_detections=100)
    model = keras_hub.models.RetinaNetObjectDetector(
        pyramid, classes, bounding_box_format=FORMAT, use_prediction_head_norm=True, prediction_decoder=decoder
    )
    # RetinaNet begins with every class at 0.01; KerasHub 0.32 gives that bias to the boxes instead
    model.classification_head.prediction_layer.bias.assign(np.full(9 * classes, -math.log(99), np.float32))
    model.box_head.prediction_layer.bias.assign(np.zeros(9 * 4, np.float32))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="folder timm of an export")
    parser.add_argument("--random", action="store_true", help="the architecture of that folder alone")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--norm", choices=("frozen", "trained"), default="frozen")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.0, help="0: 0.01 for 16 images a batch, in proportion")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--images", type=int, default=10**6, help="at most that many to train on, and a quarter of them for AP")
    parser.add_argument("--every", type=int, default=5, help="epochs between two measurements of AP")
    parser.add_argument("--workers", type=int, default=2, help="threads that read images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.random and args.norm == "frozen":
        parser.error("--random needs --norm trained")
    keras.utils.set_random_seed(args.seed)
    images, classes = read_voc(args.data)
    trained_on, held = split(images)
    trained_on, held = trained_on[: args.images], held[: -(-args.images // 4)]
    size = (args.height, args.width)
    model = build(args.weights, args.random, args.norm, len(classes), size)
    supply = Batches(trained_on, size, args.batch, args.seed, args.workers)
    steps, rate = args.epochs * len(supply), args.rate or 0.01 * args.batch / 16
    warm_up = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, max(steps - warm_up, 1), alpha=0.0, warmup_target=rate, warmup_steps=warm_up)
    model.compile(optimizer=keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=1e-4, global_clipnorm=10.0))
    begun = time.monotonic()
    watch = CocoAP(held, classes, size, args.batch, args.every)
    # KerasHub's own `fit` puts a preprocessor before the model, which has none here, and refuses Keras' data sets
    history = keras.Model.fit(model, supply, epochs=args.epochs, callbacks=[watch], verbose=2).history
    seconds = round(time.monotonic() - begun, 1)
    args.out.mkdir(parents=True, exist_ok=True)
    model.save_weights(args.out / "detector.weights.h5")
    settings = {name: value if isinstance(value, int | float) else str(value) for name, value in vars(args).items()}
    curves = {name: [float(value) for value in values] for name, values in history.items()}
    about = {**settings, "classes": classes, "eval_images": len(held), "seconds": seconds, "history": curves}
    (args.out / "result.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
