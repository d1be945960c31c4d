"""Every evaluation of a random, a JigClu and a label-trained backbone, on the folders of images that the backbones were trained on.

    python benchmarks/backbone_table.py cifar10 --data /data/cifar10 --out runs/cifar10_table --first-seed 1
    python benchmarks/evaluation_table.py cifar10 --data /data/cifar10 --backbones runs/cifar10_table --out runs/cifar10_evaluation --seed 1
    python benchmarks/evaluation_table.py flowers --data /data/flowers --backbones runs/flowers_table --out runs/flowers_evaluation

Feature evaluations (fast probe, ridge, L-BFGS, kNN) by the job `evaluate`; fine-tuning by the job `finetune` on 1 %, 10 % and all of
the labelled images, where a preset says so with the rate chosen on a held-out part. A run that was stopped goes on where it was.
Prints one JSON row a figure: top-1 in per cent with its 95 % interval over the evaluation images.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rows import print_row

from jigclu_jax.config import load_config
from jigclu_jax.jobs import find_job
from jigclu_jax.train.workdir import read_result

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
BACKBONES = ("random", "jigclu", "supervised")


@dataclasses.dataclass(frozen=True)
class LabelFraction:
    """Fine-tuning on a fraction of the labelled images (0: all, or `limit` of them)."""

    name: str
    fraction: float
    limit: int
    batch_size: int
    epochs: int
    search_epochs: int = 0  # of each of three rates on a held-out tenth; 0: rate 0.03 without a search


@dataclasses.dataclass(frozen=True)
class Preset:
    """A set of images and what its backbones look like."""

    evaluate: str  # arguments of configs/evaluate.py
    finetune: str  # arguments of configs/finetune.py
    model: dict[str, Any]  # of the backbone that starts from scratch
    test: str
    sides: tuple[int, int]  # resize and crop of the test images
    parts: tuple[LabelFraction, ...]


PRESETS = {
    "cifar10": Preset(
        "preset=cifar10",
        "preset=folder,small",
        {"arch": "resnet18", "stem": "small", "width": 0.125},
        "test",
        (32, 32),
        (LabelFraction("1pct", 0.01, 0, 64, 60), LabelFraction("10pct", 0.1, 0, 64, 15), LabelFraction("10000", 0.0, 10_000, 64, 10, 3)),
    ),
    "flowers": Preset(
        "preset=folder,resize=128,crop=112",
        "preset=folder,image_size=112",
        {"arch": "resnet18", "stem": "imagenet", "width": 1.0},
        "val",
        (128, 112),
        (LabelFraction("1pct", 0.01, 0, 16, 60), LabelFraction("10pct", 0.1, 0, 32, 20), LabelFraction("all", 0.0, 0, 64, 6)),
    ),
}


def finetuning(preset: Preset, part: LabelFraction, data: str, backbone: str, checkpoint: Path, seed: int) -> ConfigDict:
    """The job's config for one backbone and one fraction of the labels."""
    config = load_config(str(CONFIGS / "finetune.py"), f"{preset.finetune},epochs={part.epochs},batch_size={part.batch_size},seed={seed}")
    config.data.update({"path": data, "fraction": part.fraction, "limit": part.limit})
    resize, crop = preset.sides
    config.eval_data.update({"split": preset.test, "resize": resize, "crop": crop})
    config.eval_every_epochs = part.epochs
    rates = (0.01, 0.03, 0.1) if part.search_epochs else ()
    config.search.update({"learning_rates": rates, "weight_decays": (), "epochs": part.search_epochs})
    if backbone == "random":
        config.init = "random"
        config.model.update(preset.model)
    else:
        config.checkpoint = str(checkpoint)
    return config


def evaluation(preset: Preset, data: str, checkpoint: Path, seed: int, *, random_init: bool) -> ConfigDict:
    """The job's config for one backbone."""
    config = load_config(str(CONFIGS / "evaluate.py"), preset.evaluate)
    config.data.update({"source": "folder", "name": "", "path": data})
    config.checkpoint, config.seed, config.random_init = str(checkpoint), seed, random_init
    return config


def percent(parts: list[float]) -> list[float]:
    """Fractions as numbers of the table."""
    return [round(100 * part, 2) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--data", required=True, help="root of split/class/file folders")
    parser.add_argument("--backbones", required=True, help="folder with the pretraining runs jigclu_seedN and supervised_seedN")
    parser.add_argument("--out", required=True, help="folder for the runs")
    parser.add_argument("--seed", type=int, default=0, help="of the backbones and of every evaluation")
    parser.add_argument("--only", default="", help="evaluate, or the name of a part: that part alone")
    parser.add_argument("--backbone", choices=BACKBONES, help="that backbone alone")
    arguments = parser.parse_args()
    preset, out, seed = PRESETS[arguments.preset], Path(arguments.out), arguments.seed
    checkpoints = {backbone: Path(arguments.backbones) / f"{backbone}_seed{seed}" for backbone in BACKBONES}
    if arguments.only in ("", "evaluate"):
        for backbone in BACKBONES[1:]:
            if arguments.backbone not in (None, backbone):
                continue
            where = out / f"evaluate_{backbone}_seed{seed}"
            random_init = backbone == "jigclu"
            if read_result(where) is None:
                find_job("evaluate").run(evaluation(preset, arguments.data, checkpoints[backbone], seed, random_init=random_init), where)
            result = read_result(where)
            assert result is not None
            for name in [name for name, value in result.items() if isinstance(value, float) and f"{name}_interval" in result]:
                more = {"interval": percent(result[f"{name}_interval"]), "seed": seed, "commit": result["commit"]}
                print_row(f"{arguments.preset} evaluate {backbone} {name}", *percent([result[name]]), "percent", **more)
    for part in preset.parts:
        if arguments.only not in ("", part.name):
            continue
        for backbone in BACKBONES:
            if arguments.backbone not in (None, backbone):
                continue
            where = out / f"finetune_{part.name}_{backbone}_seed{seed}"
            if read_result(where) is None:
                find_job("finetune").run(finetuning(preset, part, arguments.data, backbone, checkpoints[backbone], seed), where)
            result = read_result(where)
            assert result is not None
            print_row(
                f"{arguments.preset} finetune {part.name} {backbone}",
                *percent([result["finetune_top1_last"]]),
                "percent",
                interval=percent(result["finetune_top1_last_interval"]),
                train_images=result["train_images"],
                seed=seed,
                chosen=result["chosen"],
                seconds=round(result["seconds"]),
                commit=result["commit"],
            )


if __name__ == "__main__":
    main()
