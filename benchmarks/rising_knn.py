"""kNN accuracy, loss and spread on a few thousand images while each method trains, at equal compute or for as many epochs.

    python benchmarks/rising_knn.py --data /data/cifar10 --out runs/rising
    python benchmarks/rising_knn.py --data /data/cifar10 --out runs/rising --methods jigclu,simclr --images 500 --u 12     # a try
    python benchmarks/rising_knn.py --data /data/cifar10 --out runs/curves --epochs 6 --arch resnet10 --seeds 0

The methods are the arms of configs/study_methods.py, with their settings there; each trains as many epochs as `--u` forward passes of a
full-size image pay for, counted from its own step, or `--epochs` of them; images are classified by their neighbours after every epoch.
Leaves in `--out` a workdir for each method and seed, rows.jsonl (method, seed, epoch, u, and the figures of that epoch) and table.md:
mean and 95 % interval of kNN over the seeds at fixed u, by the last whole epoch that it pays for; "rises" where kNN ends above its first
epoch with every seed. `--collapse` adds SimSiam with a gradient through its targets. The same command goes on; docs/draw_curves.py
draws rows.jsonl.
"""

import argparse
import contextlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.config import load_config
from jigclu_jax.config.jobs import CONFIGS
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.jobs import find_job
from jigclu_jax.methods import simsiam
from jigclu_jax.ops.unit_length import unit_length
from jigclu_jax.studies.ablation_tables import row_config, table_rows
from jigclu_jax.studies.cost import u_per_image
from jigclu_jax.studies.seeds import summarise
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.workdir import read_result
from jigclu_jax.train.writers import read_metrics

Found = dict[str, Any]
FIGURES = ("loss", "embedding_std", "rank_features", "knn_top1")
COLLAPSE = "simsiam, gradient through targets"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder train/CLASS/*, test/CLASS/*")
    parser.add_argument("--out", required=True)
    parser.add_argument("--methods", default="", help="names of arms, with commas; all where none is given")
    parser.add_argument("--images", type=int, default=4000, help="of training, and as many to classify")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--u", type=float, default=60.0, help="an image of the set, over the whole training")
    parser.add_argument("--epochs", type=int, default=0, help="of every method, instead of --u")
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--watched", type=int, default=0, help="images looked at after an epoch; 0: --images")
    parser.add_argument("--collapse", action="store_true")
    parser.add_argument("--points", type=int, default=5, help="columns of the table")
    parser.add_argument("--width", type=float, default=0.125, help="of the backbone")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    found: list[Found] = []
    for seed in map(int, arguments.seeds.split(",")):
        for row, config, u in arms(arguments, seed):
            workdir = out / row / f"seed{seed}"
            if read_result(workdir) is None:
                print(f"== {row}, seed {seed}: {config.epochs} epochs of {u:.1f} u", flush=True)
                with mock.patch.object(simsiam, "negative_cosine", cosine_of_both) if row == COLLAPSE else contextlib.nullcontext():
                    find_job(config.job).run(config, workdir)
            rows = [line for line in read_metrics(workdir) if line.get("knn_top1") is not None]
            for line in rows:
                figures = {name: line[name] for name in FIGURES if name in line}
                found.append({"method": row, "seed": seed, "epoch": line["epoch"], "u": line["epoch"] * u, **figures})
            write(out, found, arguments)
    print((out / "table.md").read_text())


def arms(arguments: argparse.Namespace, seed: int) -> list[tuple[str, ConfigDict, float]]:
    """Name, config and u an image of every method."""
    study = load_config(CONFIGS / "study_methods.py", f"images={arguments.images},width={arguments.width},arch={arguments.arch}")
    watched = arguments.watched or arguments.images
    study.pretrain.data.path, study.pretrain.online.images = arguments.data, watched
    study.pretrain.online.every_epochs = 1
    study.pretrain.online.eval_data.limit = watched
    study.pretrain.online.eval_data.subset_seed = 0
    rows = {row.key: row for row in table_rows(study)}
    wanted = arguments.methods.split(",") if arguments.methods else list(rows)
    if unknown := [name for name in wanted if name not in rows]:
        raise SystemExit(f"--methods: {', '.join(unknown)} unknown: use some of {', '.join(rows)}")
    source = open_source(study.pretrain.data, seed=seed)
    made = []
    for name in wanted:
        u = u_per_image(config := row_config(study.pretrain, rows[name], seed, 1), facts_of(config, source))
        made.append((name, row_config(study.pretrain, rows[name], seed, arguments.epochs or max(round(arguments.u / u), 1)), u))
    if arguments.collapse:
        made += [(COLLAPSE, config, u) for name, config, u in made if name == "simsiam"]
    return made


def cosine_of_both(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """`losses/negative_cosine.py` without its stop_gradient."""
    return -jnp.mean(jnp.sum(unit_length(predictions) * unit_length(targets), axis=-1))


def write(out: Path, found: list[Found], arguments: argparse.Namespace) -> None:
    """rows.jsonl and table.md of what is known so far."""
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    last = max(row["u"] for row in found) if arguments.epochs else arguments.u
    grid = [last * (point + 1) / arguments.points for point in range(arguments.points)]
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
