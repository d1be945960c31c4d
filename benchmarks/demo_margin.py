"""How far pretraining lifts the linear probe on the embedded data set: the demo for several seeds.

    python benchmarks/demo_margin.py --out runs/demo_margin --seeds 3

Runs `configs/demo.py` once a seed (each goes on where it was stopped) and prints one JSON row a figure: the probe's top-1 on
the pretrained backbone beside the same backbone with random weights, in points, mean over seeds, and the other yardsticks.
"""

import argparse
import contextlib
import statistics
import sys
from pathlib import Path

from rows import print_row

from jigclu_jax.config import load_config
from jigclu_jax.jobs import find_job
from jigclu_jax.train.workdir import read_result

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "demo.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arguments", default="", help="further arguments of the config, as in configs/demo.py:...")
    arguments = parser.parse_args()
    figures: dict[str, list[float]] = {}
    for seed in range(arguments.seeds):
        workdir = Path(arguments.out) / f"seed{seed}"
        config = load_config(str(CONFIG), ",".join(filter(None, [f"seed={seed}", arguments.arguments])))
        with contextlib.redirect_stdout(sys.stderr):  # what is printed here are rows alone
            find_job("demo").run(config, workdir)
        result = read_result(workdir)
        assert result is not None
        for name, value in result["probe_top1"].items():
            figures.setdefault(name, []).append(100 * value)
        print_row(
            f"probe_top1 seed {seed}",
            round(100 * result["probe_top1"]["JigClu pretraining"], 2),
            "percent",
            peer="random initialisation",
            peer_value=round(100 * result["probe_top1"]["random initialisation"], 2),
            seconds=round(result["seconds"], 1),
        )
    for name, values in figures.items():
        deviation = statistics.stdev(values) if len(values) > 1 else None
        print_row(f"probe_top1 {name}", round(statistics.mean(values), 2), "percent", deviation=deviation, seeds=len(values))
    margins = [a - b for a, b in zip(figures["JigClu pretraining"], figures["random initialisation"], strict=True)]
    mean, lowest = round(statistics.mean(margins), 2), round(min(margins), 2)
    print_row("margin over random initialisation", mean, "points", lowest=lowest, seeds=len(margins))


if __name__ == "__main__":
    main()
