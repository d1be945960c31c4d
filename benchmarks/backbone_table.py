"""Linear probes on backbones with random weights, pretrained by JigClu, and trained with labels, on a folder of images.

    python benchmarks/backbone_table.py cifar10 --data /data/cifar10 --out runs/cifar10_table --seeds 2
    python benchmarks/backbone_table.py flowers --data /data/flowers --out runs/flowers_table --seeds 1

Each backbone is trained and probed by the jobs and configs of this repository; the settings of a preset stand below. A run that was
stopped goes on where it was. Prints one JSON row a figure; top-1 of the probe's last epoch, in per cent.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict
from rows import print_row

from jigclu_jax.config import load_config
from jigclu_jax.jobs import find_job
from jigclu_jax.train.workdir import read_result

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def cifar10(data: str, method: str, seed: int) -> ConfigDict:
    """ResNet-18, small stem, width 1/8, montages of 64 pixels, 10,000 images an epoch, 20 epochs, batch 128."""
    config = load_config(str(CONFIGS / "pretrain_cifar10.py"), f"width=0.125,epochs=20,batch_size=128,method={method}")
    config.data.update({"source": "folder", "name": "", "path": data, "limit": 10_000})
    config.seed = seed
    return config


def cifar10_probe(data: str, checkpoint: str, seed: int) -> ConfigDict:
    """30 epochs on the same 10,000 images, accuracy on all 10,000 test images."""
    config = load_config(str(CONFIGS / "probe_cifar10.py"), "epochs=30")
    config.data.update({"source": "folder", "name": "", "path": data, "limit": 10_000})
    config.seed, config.checkpoint, config.random_init = seed, checkpoint, True
    return config


def flowers(data: str, method: str, seed: int) -> ConfigDict:
    """ResNet-18, ImageNet stem, montages of 112 pixels, batch 64, rate 0.03, T 0.3, 30 epochs."""
    config = load_config(str(CONFIGS / "pretrain_folder.py"), f"image_size=112,epochs=30,batch_size=64,method={method}")
    config.data.update({"path": data, "split": "train"})
    config.seed = seed
    return config


def flowers_probe(data: str, checkpoint: str, seed: int) -> ConfigDict:
    """12 epochs of crops of 112 pixels; accuracy on the validation photos, resized to 128 and cropped to 112."""
    config = load_config(str(CONFIGS / "probe_cifar10.py"), "epochs=12")
    config.data.update({"source": "folder", "name": "", "path": data, "image_size": 112})
    config.eval_data.update({"split": "val", "resize": 128, "crop": 112})
    config.seed, config.checkpoint, config.random_init = seed, checkpoint, True
    return config


PRESETS: dict[str, tuple[Callable[[str, str, int], ConfigDict], Callable[[str, str, int], ConfigDict]]] = {
    "cifar10": (cifar10, cifar10_probe),
    "flowers": (flowers, flowers_probe),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--data", required=True, help="root of split/class/file folders")
    parser.add_argument("--out", required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0, help="the seeds are this one and those after it")
    parser.add_argument("--methods", default="jigclu,supervised", help="which backbones to train")
    arguments = parser.parse_args()
    pretrain_config, probe_config = PRESETS[arguments.preset]
    figures: dict[str, list[float]] = {}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for method in arguments.methods.split(","):
            backbone = Path(arguments.out) / f"{method}_seed{seed}"
            find_job("pretrain").run(pretrain_config(arguments.data, method, seed), backbone)
            config = probe_config(arguments.data, str(backbone), seed)
            config.random_init = method == "jigclu"
            find_job("probe").run(config, Path(arguments.out) / f"probe_{method}_seed{seed}")
            result = read_result(Path(arguments.out) / f"probe_{method}_seed{seed}")
            assert result is not None
            figures.setdefault(method, []).append(100 * result["probe_top1_last"])
            if config.random_init:
                figures.setdefault("random", []).append(100 * result["probe_top1_random_init"])
            print_row(f"{arguments.preset} {method} seed {seed}", round(figures[method][-1], 2), "percent", commit=result["commit"])
    for name, values in figures.items():
        deviation = round(statistics.stdev(values), 2) if len(values) > 1 else None
        print_row(f"{arguments.preset} probe_top1 {name}", round(statistics.mean(values), 2), "percent", deviation=deviation, values=values)


if __name__ == "__main__":
    main()
