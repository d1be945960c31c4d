"""Ablations with stand-ins for pretraining and judge: which trials are run, by whom, and what becomes of their results."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming
from scipy import stats

from jigclu_jax.config import check_config, load_config
from jigclu_jax.errors import NonFiniteError, Preempted
from jigclu_jax.studies import ablation
from jigclu_jax.studies.ablation_tables import TABLES, row_config, table_rows
from jigclu_jax.studies.seeds import summarise, verdict
from jigclu_jax.train.claim import claimed
from jigclu_jax.train.workdir import open_workdir, write_result
from jigclu_jax.train.writers import JsonlWriter

ROOT = Path(__file__).resolve().parents[2]


def config_of(table: str = "branches", seeds: tuple[int, ...] = (0, 1), **arguments: Any) -> ConfigDict:
    text = ",".join(f"{name}={value}" for name, value in {"table": table, **arguments}.items())
    config = load_config(ROOT / "configs" / "ablation.py", text)
    config.seeds = seeds
    return config


def stand_in(calls: list[Any], fail: Any = None) -> Any:
    """Jobs that take no time: pretraining is as quick as its input is small, and backbones are as good as `accuracy`."""

    def run(config: ConfigDict, workdir: Any) -> None:
        calls.append((config.job, str(workdir), config.copy_and_resolve_references()))
        if fail:
            fail(config, workdir)
        root = open_workdir(workdir, config)
        if config.job == "pretrain":
            rate = {"montage": 100.0, "cells": 60.0}[config.method.input] * (32 / config.data.image_size)
            write_result(root, {"job": config.job, "seconds": 10.0, "images_per_second": rate})
        else:
            write_result(
                root,
                {
                    "job": config.job,
                    "seconds": 2.0,
                    "probe_top1_last": accuracy(Path(config.checkpoint)),
                    "probe_top1_last_interval": [0.1, 0.2],
                },
            )

    return lambda name: SimpleNamespace(run=run)


def accuracy(backbone: Path) -> float:
    method = json.loads((backbone / "config.json").read_text())["method"]
    seed = int(backbone.parent.name.removeprefix("seed"))
    return 0.4 + 0.001 * seed - (0.2 if method["cluster_weight"] == 0 else 0.0)


# --- tables


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_pretraining_that_can_be(name: str) -> None:
    config = config_of(name)
    rows = table_rows(config)
    assert len({row.key for row in rows}) == len(rows) == len({row.label for row in rows})
    made = [row_config(config.pretrain, row, 5, 7) for row in rows]
    for found in made:
        check_config(found, name)
        check_config(found)
        assert (found.seed, found.epochs, found.data.image_size % found.method.grid) == (5, 7, 0)
    assert len({json.dumps(found.data.to_dict()) for found in (made[0], row_config(config.pretrain, rows[0], 6, 7))}) == 1
    # equal time differs from equal epochs in the number of epochs alone, which is not known beforehand
    assert len({json.dumps(found.to_dict()) for found in made}) == len(rows) - (2 if name == "montage" else 0)


def test_rows_are_those_of_the_paper() -> None:
    grids = [row_config(config_of("grid").pretrain, row, 0, 1) for row in table_rows(config_of("grid"))]
    assert [(found.method.grid, found.data.image_size) for found in grids] == [(2, 32), (3, 33), (4, 32)]
    overlaps = [row.fields["method.overlap"] for row in table_rows(config_of("overlap"))]
    assert overlaps[0] == 0.3 and sorted(overlaps) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    large = table_rows(config_of("montage"))[2]
    assert large.fields == {"method.input": "cells", "data.image_size": 64}
    with raises_naming("config.table='overlaps'", "montage"):
        table_rows(config_of("overlaps"))


# --- the sweep


def test_trials_are_judged_with_their_seed_and_the_table_says_what_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(ablation, "find_job", stand_in(calls))
    config = config_of()
    config.pretrain.data.path = "/pictures"
    ablation.run(config, tmp_path / "run")
    assert len(calls) == 2 * 3 * 2
    judge = calls[1][2]
    assert (judge.job, judge.seed, judge.data.path, Path(judge.checkpoint)) == (
        "fast_probe", 0, "/pictures", tmp_path / "run" / "cells" / "both" / "seed0" / "pretrain",
    )  # fmt: skip
    # whatever the seed and the row, images are drawn with one seed
    assert {seed for _, _, found in calls for seed in (found.data.subset_seed, found.get("eval_data", found.data).subset_seed)} == {0}
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert [row["verdict"] for row in rows] == ["reference", "not resolved", "below"]
    assert rows[0]["values"] == [0.4, 0.401] and rows[0]["mean"] == pytest.approx(0.4005)
    low, high = stats.t.interval(0.95, 1, loc=0.4005, scale=stats.sem([0.4, 0.401]))
    assert (rows[0]["low"], rows[0]["high"]) == (pytest.approx(low), pytest.approx(high))
    assert [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()] == rows
    table = (tmp_path / "run" / "table.md").read_text()
    assert "| clustering alone | 40.0 % |" in table.replace("40.1", "40.0") and "not resolved" in table
    page = (tmp_path / "run" / "report.html").read_text()
    assert "| 0, 1 | reference |" in table and "0, 1" in page and "probe_top1_last of the job that judges (fast_probe)" in page
    assert "Each branch alone" in page and "data:image/svg+xml" in page
    # the same command again: nothing is run; one seed more: that seed alone
    calls.clear()
    ablation.run(config, tmp_path / "run")
    assert not calls
    config.seeds = (0, 1, 2)
    ablation.run(config, tmp_path / "run")
    assert len(calls) == 6 and all("seed2" in where for _, where, _ in calls)


def test_a_damaged_trial_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "find_job", stand_in([]))
    config = config_of("montage", (0,), epochs=10)
    ablation.run(config, tmp_path / "run")
    cell = tmp_path / "run" / "cells" / "montage" / "seed0" / "cell.json"
    cell.write_text(cell.read_text()[:20])
    with raises_naming(str(cell)):
        ablation.run(config, tmp_path / "run")
    cell.unlink()
    ablation.run(config, tmp_path / "run")


def test_equal_time_takes_its_epochs_from_the_measured_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(ablation, "find_job", stand_in(calls))
    ablation.run(config_of("montage", (0,), epochs=10), tmp_path / "run")
    epochs = {Path(where).parent.parent.name: config.epochs for job, where, config in calls if job == "pretrain"}
    assert epochs == {"montage": 10, "small": 10, "large": 10, "small_time": 6, "large_time": 3}
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert rows[0]["deviation"] is None and (rows[0]["low"], rows[0]["high"]) == (0.1, 0.2)  # of one seed: the judge's


def test_seeds_added_later_train_as_long_as_the_rows_other_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new seeds' rates would move the medians: 6 epochs by the first seed, 30 by all three. A half-done trial keeps its epochs, too."""
    speed = {0: 60.0, 1: 300.0, 2: 300.0}

    def run(config: ConfigDict, workdir: Any) -> None:
        stand_in([])("").run(config, workdir)
        if config.job == "pretrain":
            if "small_time/seed1" in str(workdir) and not stopped:
                stopped.append(True)
                (Path(workdir) / "result.json").unlink()
                raise Preempted("stopped after step 2")
            rate = speed[config.seed] if config.method.input == "cells" else 100.0
            write_result(workdir, {"job": config.job, "seconds": 1.0, "images_per_second": rate})

    stopped: list[bool] = [True]
    monkeypatch.setattr(ablation, "find_job", lambda name: SimpleNamespace(run=run))
    ablation.run(config_of("montage", (0,), epochs=10), tmp_path / "run")
    stopped.clear()
    with pytest.raises(Preempted):
        ablation.run(config_of("montage", (0, 1), epochs=10), tmp_path / "run")
    ablation.run(config_of("montage", (0, 1, 2), epochs=10), tmp_path / "run")
    cells = [json.loads(path.read_text()) for path in (tmp_path / "run" / "cells" / "small_time").glob("*/cell.json")]
    assert sorted((cell["seed"], cell["epochs"]) for cell in cells) == [(0, 6), (1, 6), (2, 6)]
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert [row["epochs"] for row in rows] == [10, 10, 10, 6, 6] and rows[1]["images_per_second"] == 300.0


def test_a_row_that_diverges_has_a_rate_and_its_equal_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: ConfigDict, workdir: Any) -> None:
        if config.job == "pretrain" and config.method.input == "cells":
            writer = JsonlWriter(open_workdir(workdir, config))
            for step, rate in enumerate((math.nan, 40.0, 60.0, 50.0), 1):
                writer.write(step, {"loss": 1.0, "images_per_second": rate})
            writer.close()
            raise NonFiniteError("loss is not finite since step 5")
        stand_in([])("").run(config, workdir)

    monkeypatch.setattr(ablation, "find_job", lambda name: SimpleNamespace(run=run))
    ablation.run(config_of("montage", (0,), epochs=10), tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert [(row["diverged"], row["epochs"]) for row in rows] == [(0, 10), (1, 10), (1, 10), (1, 5), (1, 5)]
    assert "| none (1 diverged) |" in (tmp_path / "run" / "table.md").read_text()


def test_what_a_trial_took_counts_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "find_job", stand_in([]))  # whose pretrainings say 10 seconds
    ablation.run(config_of(seeds=(0,)), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["seconds"] == pytest.approx(30.0, abs=5)


def test_a_stopped_sweep_goes_on_and_a_diverged_trial_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: ConfigDict, workdir: Any) -> None:
        if "location" in str(workdir) and config.job == "pretrain":
            raise NonFiniteError("loss is not finite since step 3")
        if "cluster/seed1" in str(workdir) and len(calls) < 9:
            raise Preempted("stopped after step 2")

    calls: list[Any] = []
    monkeypatch.setattr(ablation, "find_job", stand_in(calls, fail))
    with pytest.raises(Preempted):
        ablation.run(config_of(), tmp_path / "run")
    done = [where for job, where, _ in calls if job == "fast_probe"]
    assert not (tmp_path / "run" / "result.json").exists()
    calls += [None] * 9  # no longer fails
    ablation.run(config_of(), tmp_path / "run")
    again = [call[1] for call in calls if call and call[0] == "fast_probe"]
    assert len(again) == len(set(again)) == 4 and set(done) < set(again)
    location = json.loads((tmp_path / "run" / "result.json").read_text())["rows"][2]
    assert (location["mean"], location["diverged"], location["verdict"]) == (None, 2, "not resolved")
    assert "2 diverged" in (tmp_path / "run" / "report.html").read_text()


def test_fields_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "find_job", stand_in([]))
    for seeds in ((), (0, 0), (-1,), (0.5,), ("a",)):
        with raises_naming("config.seeds="):
            ablation.run(config_of(seeds=seeds), tmp_path / "run")
    config = config_of(seeds=(0,))
    config.metric = "top1"
    with raises_naming("config.metric='top1'", "judge/result.json", "job, version"):
        ablation.run(config, tmp_path / "run")
    config.metric = "seconds"
    with raises_naming("config.metric='seconds'", "judge/result.json"):
        ablation.run(config, tmp_path / "other")


# --- several processes

WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from jobs.test_ablation import config_of, stand_in
from jigclu_jax.studies import ablation
log = Path({log!r})
def slow(config, workdir):
    with log.open("a") as file:
        file.write(f"{{config.job}} {{workdir}}\\n")
    if config.job == "pretrain":
        time.sleep(0.2)
ablation._POLL = 0.05
ablation.find_job = stand_in([], slow)
ablation.run(config_of(), {workdir!r})
"""


@pytest.mark.slow
def test_two_processes_share_the_trials_and_run_none_twice(tmp_path: Path) -> None:
    code = WORKER.format(tests=str(ROOT / "tests"), log=str(tmp_path / "log"), workdir=str(tmp_path / "run"))
    workers = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 12
    assert all("report: " in text for text in said)


HOLDER = """
import sys, time
from jigclu_jax.train.claim import claimed
with claimed(sys.argv[1]) as mine:
    print(bool(mine), flush=True)
    time.sleep(60)
"""


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "cells" / "claim"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    with claimed(path) as mine:
        assert not mine
    assert f"process {holder.pid} since" in path.read_text()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with claimed(path) as mine:
        assert mine
        assert f"process {os.getpid()} since" in path.read_text()
    assert not path.exists()


# --- several seeds


def test_summary_of_seeds_is_scipys() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 5)
    found = summarise(values.tolist())
    assert (found.mean, found.deviation) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values)))
    wide = summarise([0.1, 0.4]), summarise([0.1, 0.4], fraction=True)  # two seeds: 12.7 deviations of the mean
    assert wide[0].low < 0 and wide[0].high > 1 and (wide[1].low, wide[1].high) == (0.0, 1.0)
    assert found.over == "seeds" and summarise([0.5]).over == ""
    assert summarise([0.5]).low is None and summarise([0.5], (0.4, 0.6)).high == 0.6


def test_seeds_that_give_one_value_have_the_interval_over_the_images() -> None:
    """A collapsed backbone has the same accuracy with every seed; two seeds may by chance. Neither makes an interval without width."""
    same = summarise([0.4, 0.4], (0.37, 0.43))
    assert (same.mean, same.deviation, same.low, same.high, same.over) == (0.4, 0.0, 0.37, 0.43, "images")
    assert verdict(same, summarise([0.41], (0.38, 0.44))) == "not resolved"
    assert verdict(summarise([0.1] * 3, (0.09, 0.11)), same) == "below"
    assert verdict(summarise([0.4, 0.4]), summarise([0.1], (0.09, 0.11))) == "not resolved"


def test_overlapping_intervals_are_not_resolved() -> None:
    of = lambda low, high: summarise([(low + high) / 2], (low, high))  # noqa: E731
    assert verdict(of(0.5, 0.6), of(0.3, 0.4)) == "above"
    assert verdict(of(0.1, 0.2), of(0.3, 0.4)) == "below"
    assert verdict(of(0.35, 0.6), of(0.3, 0.4)) == verdict(summarise([0.9]), of(0.3, 0.4)) == "not resolved"
