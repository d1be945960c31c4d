"""Trains torchvision's Faster R-CNN with FPN from an exported backbone, after the recipe of the JigClu paper, on a folder in VOC's layout.

    pip install torch torchvision pycocotools
    python detection_torchvision.py --data BCCD --weights runs/exported/torchvision.pth --arch resnet18 --out runs/bccd

The paper: FPN, BatchNorm that is trained and synchronised in backbone, FPN and a box head of four convolutions and one linear
layer, SGD at 0.01 for 8 images a batch, the rate divided by 10 at 2/3 and 8/9 of the iterations. One process: its batch is the
statistics' batch, so that 2 images a batch want `--norm frozen`, where the backbone's statistics stay those of pretraining, and FPN and
head have none. `--weights random` starts from nothing (with `--norm trained`: what is frozen must have been trained); the export of a run
with labels is another start.

Data: `Annotations/*.xml` with boxes and `JPEGImages/*`; every fifth image is kept for AP (pycocotools), whatever `ImageSets` says.
"""

import argparse
import contextlib
import io
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.ops.misc import FrozenBatchNorm2d

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # preprocessing.json of an export


def read_voc(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Images with boxes float[n, 4] (x0, y0, x1, y1) and labels int[n] from 1, and the names of the classes."""
    images, names = [], set()
    for path in sorted((folder / "Annotations").glob("*.xml")):
        root = ET.parse(path).getroot()
        found = [
            (o.findtext("name"), [float(o.find("bndbox").findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")])
            for o in root.iter("object")
        ]
        found = [(name, box) for name, box in found if box[2] > box[0] and box[3] > box[1]]
        names |= {name for name, _ in found}
        images.append({"path": folder / "JPEGImages" / f"{path.stem}.jpg", "found": found})
    classes = sorted(names)
    for number, image in enumerate(images):
        found = image.pop("found")
        image["id"] = number
        image["boxes"] = np.array([box for _, box in found], np.float32).reshape(-1, 4)
        image["labels"] = np.array([1 + classes.index(name) for name, _ in found], np.int64)
    return images, classes


def pixels(path: Path) -> torch.Tensor:
    """float[3, h, w] of 0 to 1."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255


def build(arch: str, weights: str, norm: str, classes: int, side: int) -> FasterRCNN:
    """The detector; its backbone's weights are those of the file, or random."""
    trained = norm == "trained"
    backbone = getattr(torchvision.models, arch)(norm_layer=torch.nn.BatchNorm2d if trained else FrozenBatchNorm2d)
    if weights != "random":
        state = torch.load(weights, weights_only=True)
        state = {name: value for name, value in state.items() if trained or not name.endswith("num_batches_tracked")}
        left = backbone.load_state_dict(state, strict=False)
        assert not left.unexpected_keys and {name.split(".")[0] for name in left.missing_keys} == {"fc"}, left
    norm_layer = torch.nn.BatchNorm2d if trained else None
    channels = [backbone.inplanes // 8 * 2**stage for stage in range(4)]
    layers = {f"layer{stage + 1}": str(stage) for stage in range(4)}
    fpn = BackboneWithFPN(backbone, layers, channels, 256, norm_layer=norm_layer)
    head = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm_layer)
    model = FasterRCNN(fpn, num_classes=classes + 1, box_head=head, min_size=side, max_size=2 * side, image_mean=MEAN, image_std=STD)
    if torch.distributed.is_initialized():
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model


def batches(images: list[dict[str, Any]], size: int, seed: int) -> Iterator[tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]]:
    """Shuffled images and their boxes without end; every second one is mirrored."""
    rng = np.random.default_rng(seed)
    order: list[int] = []
    while True:
        order = order if len(order) >= size else list(rng.permutation(len(images)))
        chosen, order = [images[i] for i in order[:size]], order[size:]
        inputs, targets = [], []
        for image in chosen:
            picture, boxes = pixels(image["path"]), torch.from_numpy(image["boxes"].copy())
            if rng.random() < 0.5:
                picture, boxes = (
                    picture.flip(-1),
                    torch.stack([picture.shape[-1] - boxes[:, 2], boxes[:, 1], picture.shape[-1] - boxes[:, 0], boxes[:, 3]], 1),
                )
            inputs.append(picture)
            targets.append({"boxes": boxes, "labels": torch.from_numpy(image["labels"])})
        yield inputs, targets


def train(model: FasterRCNN, images: list[dict[str, Any]], iterations: int, batch: int, rate: float, device: str) -> None:
    """SGD with a warm-up over a tenth of the iterations, divided by 10 at 2/3 and 8/9."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate, momentum=0.9, weight_decay=1e-4)
    begun, supply = time.monotonic(), batches(images, batch, seed=0)
    model.train()
    for step in range(iterations):
        part = step / iterations
        factor = min(1.0, (step + 1) / max(iterations / 10, 1)) * 0.1 ** ((part >= 2 / 3) + (part >= 8 / 9))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        inputs, targets = next(supply)
        losses = model([x.to(device) for x in inputs], [{name: value.to(device) for name, value in target.items()} for target in targets])
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9 or step + 1 == iterations:
            print(f"step {step + 1}/{iterations}  loss {loss.item():.3f}  {time.monotonic() - begun:.0f} s", flush=True)


def average_precision(model: FasterRCNN, images: list[dict[str, Any]], classes: list[str], device: str) -> dict[str, float]:
    """COCO's AP, AP50 and AP75 in percent."""
    truth, numbered, found = [], [], []
    model.eval()
    for image in images:
        picture = pixels(image["path"]).to(device)
        numbered.append({"id": image["id"], "height": picture.shape[1], "width": picture.shape[2]})
        for (x0, y0, x1, y1), label in zip(image["boxes"].tolist(), image["labels"].tolist(), strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            truth.append(
                {"id": len(truth) + 1, "image_id": image["id"], "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )
        with torch.no_grad():
            [result] = model([picture])
        for (x0, y0, x1, y1), label, score in zip(*(result[name].tolist() for name in ("boxes", "labels", "scores")), strict=True):
            found.append({"image_id": image["id"], "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
    if not found:
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": numbered,
            "annotations": truth,
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(classes)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.evaluate(), judge.accumulate(), judge.summarize()
    return {name: round(100 * float(value), 2) for name, value in zip(("AP", "AP50", "AP75"), judge.stats, strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="torchvision.pth of an export, or random")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--norm", choices=("trained", "frozen"), default="trained")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.0, help="0: 0.01 for 8 images a batch, in proportion")
    parser.add_argument("--side", type=int, default=480, help="short side of the images in pixels")
    parser.add_argument("--eval-images", type=int, default=10**6, help="at most that many")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.weights == "random" and args.norm == "frozen":
        parser.error("--weights random needs --norm trained")
    torch.manual_seed(0)
    images, classes = read_voc(args.data)
    held = images[::5][: args.eval_images]
    model = build(args.arch, args.weights, args.norm, len(classes), args.side).to(args.device)
    train(
        model,
        [image for i, image in enumerate(images) if i % 5],
        args.iterations,
        args.batch,
        args.rate or 0.01 * args.batch / 8,
        args.device,
    )
    found = average_precision(model, held, classes, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), args.out / "detector.pth")
    settings = {name: value if isinstance(value, int | float) else str(value) for name, value in vars(args).items()}
    (args.out / "result.json").write_text(json.dumps({**settings, "classes": classes, "images": len(held), **found}, indent=2) + "\n")
    print(f"{args.weights}: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()) + f" on {len(held)} images")


if __name__ == "__main__":
    main()
