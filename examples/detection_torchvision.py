"""Trains torchvision's Faster R-CNN with FPN from an exported backbone, after the recipe of the JigClu paper, on a folder in VOC's layout.

    pip install torch torchvision pycocotools
    python detection_torchvision.py --data BCCD --weights runs/exported/torchvision.pth --arch resnet18 --out runs/bccd

The paper: FPN, BatchNorm that is trained and synchronised in backbone, FPN and a box head of four convolutions and one linear
layer, SGD at 0.01 for 8 images a batch, the rate divided by 10 at 2/3 and 8/9 of the iterations. One process: its batch is the
statistics' batch, so that 2 images a batch want `--norm frozen`, where the backbone's statistics stay those of pretraining, and FPN and
head have none. `--weights random` starts from nothing (with `--norm trained`: what is frozen must have been trained); the export of a run
with labels is another start.

Data: `voc_folder.py`.
"""

import argparse
import json
import pickle
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.ops.misc import FrozenBatchNorm2d
from voc_folder import MEAN, STD, average_precision, read_voc, split

_LEFT = re.compile(r"^fc\.|\.num_batches_tracked$")  # a classifier, and BatchNorm's counters, which are not used


class Images(torch.utils.data.Dataset):
    """uint8[3, h, w] and the entry of `images`, boxes as tensors; of the pairs (number, mirrored) that a loader asks for."""

    def __init__(self, images: list[dict[str, Any]]) -> None:
        self.images = images

    def __getitem__(self, which: tuple[int, bool]) -> tuple[torch.Tensor, dict[str, Any]]:
        image = self.images[which[0]]
        picture = torch.from_numpy(np.array(Image.open(image["path"]).convert("RGB"))).permute(2, 0, 1)
        boxes, labels = torch.from_numpy(image["boxes"].copy()), torch.from_numpy(1 + image["labels"])  # 0: the background
        if which[1]:
            picture = picture.flip(-1)
            boxes[:, [0, 2]] = picture.shape[-1] - boxes[:, [2, 0]]
        return picture.contiguous(), {"boxes": boxes, "labels": labels, "id": image["id"]}


def together(pairs: list[tuple[Any, Any]]) -> tuple[tuple[Any, ...], ...]:
    """Images have sizes of their own, so that a batch is a tuple of them."""
    return tuple(zip(*pairs, strict=True))


def loader(images: list[dict[str, Any]], batches: list[list[tuple[int, bool]]], workers: int) -> torch.utils.data.DataLoader:
    """Lists of images and of their boxes, a pair a batch; `workers` processes read them (0: this one)."""
    return torch.utils.data.DataLoader(Images(images), batch_sampler=batches, num_workers=workers, collate_fn=together)


def shuffled(images: int, batch: int, iterations: int, seed: int) -> list[list[tuple[int, bool]]]:
    """Batches of (number, mirrored): every image once before any comes again, every second one mirrored."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(images) for _ in range(-(-iterations * batch // images))])[: iterations * batch]
    mirrored = rng.random(len(order)) < 0.5
    pairs = list(zip(order.tolist(), mirrored.tolist(), strict=True))
    return [pairs[first : first + batch] for first in range(0, len(pairs), batch)]


def to_device(pictures: Sequence[torch.Tensor], device: str) -> list[torch.Tensor]:
    """float[3, h, w] of 0 to 1."""
    return [picture.to(device).float() / 255 for picture in pictures]


def load_backbone(backbone: torch.nn.Module, weights: str, arch: str) -> None:
    """Give the backbone the arrays of a file; a classifier is left, on both sides."""
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SystemExit(f"{weights}: {error.strerror}") from None
    except (RuntimeError, pickle.UnpicklingError):
        raise SystemExit(f"{weights}: no .pth file that holds arrays alone: give the torchvision.pth of an export") from None
    own, read = ({name: x for name, x in one.items() if not _LEFT.search(name)} for one in (backbone.state_dict(), state))
    wrong = sorted(own.keys() ^ read.keys() | {name for name in own.keys() & read.keys() if own[name].shape != read[name].shape})
    if wrong:
        raise SystemExit(f"{weights}: no {arch} of full width, {len(wrong)} of its arrays differ ({wrong[0]} the first): give its --arch")
    backbone.load_state_dict(read, strict=False)


def build(arch: str, weights: str, norm: str, classes: int, side: int) -> FasterRCNN:
    """The detector; its backbone's weights are those of the file, or random."""
    trained = norm == "trained"
    backbone = getattr(torchvision.models, arch)(norm_layer=torch.nn.BatchNorm2d if trained else FrozenBatchNorm2d)
    if weights != "random":
        load_backbone(backbone, weights, arch)
    norm_layer = torch.nn.BatchNorm2d if trained else None
    channels = [backbone.inplanes // 8 * 2**stage for stage in range(4)]
    layers = {f"layer{stage + 1}": str(stage) for stage in range(4)}
    fpn = BackboneWithFPN(backbone, layers, channels, 256, norm_layer=norm_layer)
    head = FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm_layer)
    model = FasterRCNN(fpn, num_classes=classes + 1, box_head=head, min_size=side, max_size=2 * side, image_mean=MEAN, image_std=STD)
    if torch.distributed.is_initialized():
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model


def train(model: FasterRCNN, supply: torch.utils.data.DataLoader, rate: float, device: str) -> None:
    """SGD with a warm-up over a tenth of the iterations, divided by 10 at 2/3 and 8/9."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate, momentum=0.9, weight_decay=1e-4)
    begun, iterations = time.monotonic(), len(supply)
    model.train()
    for step, (pictures, boxes) in enumerate(supply):
        part = step / iterations
        factor = min(1.0, (step + 1) / max(iterations / 10, 1)) * 0.1 ** ((part >= 2 / 3) + (part >= 8 / 9))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        targets = [{name: target[name].to(device) for name in ("boxes", "labels")} for target in boxes]
        losses = model(to_device(pictures, device), targets)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9 or step + 1 == iterations:
            print(f"step {step + 1}/{iterations}  loss {loss.item():.3f}  {time.monotonic() - begun:.0f} s", flush=True)


@torch.no_grad()
def detect(model: FasterRCNN, supply: torch.utils.data.DataLoader, device: str) -> list[dict[str, Any]]:
    """Boxes as `average_precision` takes them."""
    found: list[dict[str, Any]] = []
    model.eval()
    for pictures, images in supply:
        for image, result in zip(images, model(to_device(pictures, device)), strict=True):
            for (x0, y0, x1, y1), label, score in zip(*(result[name].tolist() for name in ("boxes", "labels", "scores")), strict=True):
                box = [x0, y0, x1 - x0, y1 - y0]
                found.append({"image_id": image["id"], "category_id": label - 1, "bbox": box, "score": score})
    return found


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
    parser.add_argument("--workers", type=int, default=2, help="processes that read images; 0: none beside this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.weights == "random" and args.norm == "frozen":
        parser.error("--weights random needs --norm trained")
    torch.manual_seed(args.seed)
    images, classes = read_voc(args.data)
    trained_on, held = split(images)
    held = held[: args.eval_images]
    order = shuffled(len(trained_on), args.batch, args.iterations, args.seed)
    model = build(args.arch, args.weights, args.norm, len(classes), args.side).to(args.device)
    begun = time.monotonic()
    train(model, loader(trained_on, order, args.workers), args.rate or 0.01 * args.batch / 8, args.device)
    seconds = round(time.monotonic() - begun, 1)
    one_by_one = loader(held, [[(i, False)] for i in range(len(held))], args.workers)
    found = average_precision(held, detect(model, one_by_one, args.device), classes)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), args.out / "detector.pth")
    settings = {name: value if isinstance(value, int | float) else str(value) for name, value in vars(args).items()}
    about = {**settings, "classes": classes, "images": len(held), "train_seconds": seconds, **found}
    (args.out / "result.json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{args.weights}: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()) + f" on {len(held)} images")


if __name__ == "__main__":
    main()
