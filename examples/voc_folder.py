"""A folder in VOC's layout, and COCO's AP of what a detector finds in it: what the examples of detection share.

`Annotations/*.xml` with boxes and `JPEGImages/*.jpg`; every fifth image is kept for AP, whatever `ImageSets` says.
"""

import contextlib
import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # preprocessing.json of an export


def read_voc(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Images with size, boxes float[n, 4] (x0, y0, x1, y1) in pixels and labels int[n] from 0, and the names of the classes."""
    images, names = [], set()
    for path in sorted((folder / "Annotations").glob("*.xml")):
        root = ET.parse(path).getroot()
        found = [
            (o.findtext("name"), [float(o.find("bndbox").findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")])
            for o in root.iter("object")
        ]
        found = [(name, box) for name, box in found if box[2] > box[0] and box[3] > box[1]]
        names |= {name for name, _ in found}
        size = {side: int(root.find("size").findtext(side)) for side in ("height", "width")}
        images.append({"id": len(images), "path": folder / "JPEGImages" / f"{path.stem}.jpg", "found": found, **size})
    if not images:
        raise SystemExit(f"{folder}: no Annotations/*.xml in it: give a folder in VOC's layout")
    classes = sorted(names)
    for image in images:
        found = image.pop("found")
        image["boxes"] = np.array([box for _, box in found], np.float32).reshape(-1, 4)
        image["labels"] = np.array([classes.index(name) for name, _ in found], np.int64)
    return images, classes


def split(images: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images to train on, and every fifth one."""
    return [image for i, image in enumerate(images) if i % 5], images[::5]


def average_precision(images: list[dict[str, Any]], found: list[dict[str, Any]], classes: list[str]) -> dict[str, float]:
    """COCO's AP, AP50 and AP75 in percent; `found` holds image_id, category_id (the label), bbox (x0, y0, width, height) and score."""
    if not found:
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    truth = []
    for image in images:
        for (x0, y0, x1, y1), label in zip(image["boxes"].tolist(), image["labels"].tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            truth.append({"id": len(truth) + 1, "image_id": image["id"], "category_id": label, **box})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{name: image[name] for name in ("id", "height", "width")} for image in images],
            "annotations": truth,
            "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "bbox")
        judge.evaluate(), judge.accumulate(), judge.summarize()
    return {name: round(100 * float(value), 2) for name, value in zip(("AP", "AP50", "AP75"), judge.stats, strict=False)}
