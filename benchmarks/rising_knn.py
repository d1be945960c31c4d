"""kNN accuracy on a few thousand images while each method trains, at equal compute.

    python benchmarks/rising_knn.py --data /data/cifar10 --out runs/rising
    python benchmarks/rising_knn.py --data /data/cifar10 --out runs/rising --methods jigclu,simclr --images 500 --u 12     # a try

The methods are the arms of configs/study_methods.py, with their settings there; each trains as many epochs as `--u` forward passes of a
full-size image pay for, counted from its own step, and the images are classified by their neighbours after every epoch. Leaves in `--out` a
workdir for each method and seed, rows.jsonl (method, seed, epoch, u, kNN) and table.md: mean and 95 % interval over the seeds at fixed
u, by the last whole epoch that it pays for; "rises" where kNN ends above its first epoch with every seed. The same command goes on.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config import load_config
from jigclu_jax.config.jobs import CONFIGS
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.jobs import find_job
from jigclu_jax.studies.ablation_tables import row_config, table_rows
from jigclu_jax.studies.cost import u_per_image
from jigclu_jax.studies.seeds import summarise
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.workdir import read_result
from jigclu_jax.train.writers import read_metrics

Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder train/CLASS/*, test/CLASS/*")
    parser.add_argument("--out", required=True)
    parser.add_argument("--methods", default="", help="names of arms, with commas; all where none is given")
    parser.add_argument("--images", type=int, default=4000, help="of training, and as many to classify")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--u", type=float, default=60.0, help="an image of the set, over the whole training")
    parser.add_argument("--points", type=int, default=5, help="columns of the table")
    parser.add_argument("--width", type=float, default=0.125, help="of the backbone, a ResNet-18")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    found: list[Found] = []
    for seed in map(int, arguments.seeds.split(",")):
        for row, config, u in arms(arguments, seed):
            workdir = out / row / f"seed{seed}"
            if read_result(workdir) is None:
                print(f"== {row}, seed {seed}: {config.epochs} epochs of {u:.1f} u", flush=True)
                find_job(config.job).run(config, workdir)
            rows = [line for line in read_metrics(workdir) if line.get("knn_top1") is not None]
            found += [
                {"method": row, "seed": seed, "epoch": line["epoch"], "u": line["epoch"] * u, "knn_top1": line["knn_top1"]} for line in rows
            ]
            write(out, found, arguments)
    print((out / "table.md").read_text())


def arms(arguments: argparse.Namespace, seed: int) -> list[tuple[str, ConfigDict, float]]:
    """Name, config and u an image of every method."""
    study = load_config(CONFIGS / "study_methods.py", f"images={arguments.images},width={arguments.width}")
    study.pretrain.data.path, study.pretrain.online.images = arguments.data, arguments.images
    study.pretrain.online.every_epochs = 1
    study.pretrain.online.eval_data.limit = arguments.images
    study.pretrain.online.eval_data.subset_seed = 0
    rows = {row.key: row for row in table_rows(study)}
    wanted = arguments.methods.split(",") if arguments.methods else list(rows)
    if unknown := [name for name in wanted if name not in rows]:
        raise SystemExit(f"--methods: {', '.join(unknown)} unknown: use some of {', '.join(rows)}")
    source = open_source(study.pretrain.data, seed=seed)
    made = []
    for name in wanted:
        u = u_per_image(config := row_config(study.pretrain, rows[name], seed, 1), facts_of(config, source))
        made.append((name, row_config(study.pretrain, rows[name], seed, max(round(arguments.u / u), 1)), u))
    return made


def write(out: Path, found: list[Found], arguments: argparse.Namespace) -> None:
    """rows.jsonl and table.md of what is known so far."""
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    grid = [arguments.u * (point + 1) / arguments.points for point in range(arguments.points)]
    lines = [f"| method | {' | '.join(f'{u:g} u' for u in grid)} | |", f"|{'---|' * (len(grid) + 2)}"]
    curves: dict[str, dict[int, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        curves[row["method"]][row["seed"]].append(row)
    for method, seeds in curves.items():
        rises = all(curve[-1]["knn_top1"] > curve[0]["knn_top1"] for curve in seeds.values())
        cells = [at(u, list(seeds.values())) for u in grid[:-1]] + [at(float("inf"), list(seeds.values()))]
        lines.append(f"| {method} | {' | '.join(cells)} | {'rises' if rises else 'does not rise'} |")
    (out / "table.md").write_text("\n".join(lines) + "\n")


def at(u: float, curves: list[list[Found]]) -> str:
    """Mean and interval over the seeds of the last epochs that so much pays for."""
    paid = [[row for row in curve if row["u"] <= u * 1.05] for curve in curves]  # a first convolution costs a little more
    if not all(paid):
        return ""
    over = summarise([rows[-1]["knn_top1"] for rows in paid], fraction=True)
    interval = "" if over.low is None or over.high is None else f" ({100 * over.low:.1f} to {100 * over.high:.1f})"
    return f"{100 * over.mean:.1f} %{interval}"


if __name__ == "__main__":
    main()
