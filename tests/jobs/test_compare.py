"""Runs side by side: which stand together, what differs, what is left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming

from jigclu_jax.config import compare_config, finetune_config, knn_config, pretrain_config, probe_config
from jigclu_jax.studies import compare
from jigclu_jax.studies.compared_runs import differences, read_runs
from jigclu_jax.studies.cost import u_of_run
from jigclu_jax.studies.method_table import method_tables, table_cells
from jigclu_jax.train.workdir import config_as_dict, read_result


def make(folder: Path, seed: int, rate: float = 0.03, top1: float = 0.5, job: str = "pretrain", checkpoint: str = "") -> Path:
    config = pretrain_config() if job == "pretrain" else probe_config()
    config.seed, config.optimizer.learning_rate = seed, rate
    if checkpoint:
        config.checkpoint = checkpoint
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_as_dict(config)))
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "epoch": s / 2, "loss": 3.0 / s}) + "\n" for s in (1, 2, 3)))
    result: dict[str, Any] = {
        "job": job,
        "seed": seed,
        "seconds": 10.0 + seed,
        "probe_top1_last": top1,
        "probe_top1_last_interval": [0.4, 0.6],
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def run(runs: str, out: Path) -> dict[str, Any]:
    config = compare_config()
    config.runs = runs
    compare.run(config, out)
    result = read_result(out)
    assert result is not None
    return result


def test_seeds_stand_together_and_the_rest_is_told_apart(tmp_path: Path) -> None:
    for seed, top1 in ((0, 0.50), (1, 0.52), (2, 0.54)):
        make(tmp_path / f"slow{seed}", seed, top1=top1)
    make(tmp_path / "fast", 0, rate=0.3, top1=0.9)
    result = run(f"{tmp_path}/slow*,{tmp_path}/fast", tmp_path / "out")
    assert [group["runs"] for group in result["groups"]] == [["slow0", "slow1", "slow2"], ["fast"]]
    slow, fast = (group["results"]["probe_top1_last"] for group in result["groups"])
    assert (slow["mean"], slow["deviation"]) == (pytest.approx(0.52), pytest.approx(0.02))
    # t(2) at 97.5 % is 4.3027
    assert (slow["low"], slow["high"]) == (pytest.approx(0.52 - 4.3027 * 0.02 / 3**0.5, abs=1e-5), pytest.approx(0.5697, abs=1e-4))
    assert (fast["low"], fast["high"], fast["deviation"], fast["verdict"]) == (0.4, 0.6, None, "not resolved")
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(text in page for text in ("slow0 and 2 more", "optimizer.learning_rate", "not resolved", "Loss"))
    runs, _ = read_runs([str(tmp_path / name) for name in ("slow0", "fast")])
    assert differences(runs) == [("optimizer.learning_rate", [0.03, 0.3])]
    probe = make(tmp_path / "probe", 0, job="probe")
    runs, _ = read_runs([str(tmp_path / "slow0"), str(probe)])
    found = dict(differences(runs))
    assert found["job"] == ["pretrain", "probe"] and "eval_batch_size" not in found, "what one of them alone has is no difference"


def test_probes_of_different_pretrainings_do_not_stand_together(tmp_path: Path) -> None:
    backbones = [make(tmp_path / f"backbone{seed}", seed) for seed in (0, 1)]
    other = make(tmp_path / "other", 0, rate=0.1)
    for number, backbone in enumerate((*backbones, other)):
        make(tmp_path / f"probe{number}", 0 if backbone == other else number, job="probe", checkpoint=str(backbone))
    result = run(f"{tmp_path}/probe*", tmp_path / "out")
    assert [group["runs"] for group in result["groups"]] == [["probe0", "probe1"], ["probe2"]]


def test_only_other_seeds_are_seeds(tmp_path: Path) -> None:
    """Two checkpoints of one run, a run made twice, and one workdir under two names."""
    backbones = [make(tmp_path / f"backbone{seed}", seed) for seed in (0, 1)]
    for name, backbone, step in (("a", 0, 5), ("b", 0, 10), ("c", 0, 10), ("d", 1, 10)):
        probe = make(tmp_path / name, 0, job="probe", checkpoint=str(backbones[backbone]), top1=0.4 + backbone / 10)
        result = json.loads((probe / "result.json").read_text())
        (probe / "result.json").write_text(json.dumps(result | {"checkpoint_step": step}))
    result = run(f"{tmp_path}/a,{tmp_path}/b,{tmp_path}/c,{tmp_path}/d,{tmp_path}/backbone0/../b", tmp_path / "out")
    assert [group["runs"] for group in result["groups"]] == [["a"], ["b", "d"], ["c"]]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "is the same workdir as" in page


def test_what_cannot_be_read_is_named_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "good", 0)
    (make(tmp_path / "torn", 0) / "result.json").write_text('{"job": ')
    (make(tmp_path / "rows", 0) / "metrics.jsonl").write_text("nonsense\n{}\n")
    (make(tmp_path / "config", 0) / "config.json").write_text("[]")
    empty = make(tmp_path / "begun", 0)
    (empty / "result.json").unlink()
    (empty / "metrics.jsonl").unlink()
    names = ("good", "torn", "rows", "config", "begun", "nope")
    result = run(",".join(f"{tmp_path}/{name}" for name in names), tmp_path / "out")
    assert result["runs"] == ["good"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(result["left_out"]) == 5
    for name, line in zip(names[1:], said, strict=True):
        assert line.startswith(f"left out: {tmp_path}/{name}")
    assert "Left out" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_to_compare(tmp_path: Path) -> None:
    with raises_naming("config.runs"):
        run(" , ", tmp_path / "out")
    with raises_naming(f"{tmp_path}/nope"):
        run(f"{tmp_path}/nope", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def study(folder: Path, seed: int, measured: dict[str, float], *, epochs: int, data: str = "/data/small", method: str = "jigclu") -> None:
    """A pretraining with an evaluation of each kind that is named."""
    config = pretrain_config(method)
    config.update({"seed": seed, "epochs": epochs})
    config.data.path = data
    write(folder / f"{seed}", config, {"images_per_second": 100.0 + seed, "memory_gib": 1.5})
    for job, value in measured.items():
        judge = {"probe": probe_config, "finetune": finetune_config, "knn": knn_config}[job.removesuffix("_few")]()
        judge.checkpoint, judge.data.fraction = str(folder / f"{seed}"), 0.01 if job.endswith("_few") else 0.0
        name = {"probe": "probe_top1_last", "knn": "knn_top1_weighted_20", "finetune_few": "finetune_top1_last"}[job]
        write(folder / f"{seed}_{job}", judge, {name: value, f"{name}_interval": [value - 0.05, value + 0.05]})


def write(folder: Path, config: ConfigDict, result: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_as_dict(config)))
    (folder / "result.json").write_text(json.dumps({"job": config.job, "seed": config.seed, "seconds": 1.0} | result))


def test_methods_by_rows_and_data_sets_by_columns(tmp_path: Path) -> None:
    for seed, shift in ((0, 0.0), (1, 0.002)):
        few = {"probe": 0.5 + shift, "knn": 0.4 + shift, "finetune_few": 0.2 + shift}
        study(tmp_path / "a", seed, few, epochs=10)
        study(tmp_path / "b", seed, {"probe": 0.6 + shift, "knn": 0.401 + shift}, epochs=10, method="simclr")
        study(tmp_path / "c", seed, {"probe": 0.3 + shift}, epochs=5, method="simclr")
    study(tmp_path / "d", 0, {"knn": 0.7}, epochs=10, data="/data/flowers")
    study(tmp_path / "e", 0, {"knn": 0.72}, epochs=5, data="/data/flowers", method="simclr")
    judges = sorted(str(path) for path in tmp_path.glob("?/*_*"))  # their pretrainings are found by themselves
    runs, broken = read_runs(judges)
    assert not broken
    equal_epochs, equal_u = method_tables(runs, lambda root: 3.0 if root.parent.name in "ad" else 6.0)
    assert equal_epochs["by"] == "epochs" and [row["method"] for row in equal_epochs["rows"]] == ["jigclu", "simclr"]
    jigclu, simclr = (row["cells"] for row in equal_epochs["rows"])
    assert jigclu["small: probe"]["mean"] == pytest.approx(0.501) and jigclu["small: probe"]["over"] == "seeds"
    assert (simclr["small: probe"]["verdict"], simclr["small: kNN"]["verdict"]) == ("above", "not resolved")
    assert jigclu["small: fine-tuned, 1 % of the labels"]["mean"] == pytest.approx(0.201)
    assert (jigclu["small: images/s"]["value"], jigclu["small: memory, GiB"]["value"]) == (100.5, 1.5)
    assert (jigclu["small: u an image"]["value"], simclr["small: u an image"]["value"]) == (3.0, 6.0)
    assert not any(name.startswith("flowers") for name in simclr), "the one of flowers has spent five epochs"
    by_u = {row["method"]: row["cells"] for row in equal_u["rows"]}
    assert (by_u["simclr"]["small: probe"]["verdict"], by_u["simclr"]["flowers: kNN"]["verdict"]) == ("below", "not resolved")
    assert "small: fine-tuned, 1 % of the labels" not in by_u["simclr"]
    header, rows = table_cells(equal_u)
    assert len(header) == len(rows[0]) and "50.1 % (" in str(rows[0][1])


def test_rows_of_one_method_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    for name, temperature in (("warm", 0.3), ("cold", 0.1)):
        config = pretrain_config()
        config.method.temperature = temperature
        write(tmp_path / name, config, {"images_per_second": 10.0})
    runs, _ = read_runs([str(tmp_path / name) for name in ("warm", "cold")])
    (table,) = method_tables(runs, u_of_run)
    assert [row["method"] for row in table["rows"]] == ["jigclu temperature=0.3", "jigclu temperature=0.1"]
    assert all("u an image" not in row["cells"] for row in table["rows"]), "without a checkpoint nothing says what it costs"


def test_stars_stand_anywhere(tmp_path: Path) -> None:
    for name in ("a/seed0/judge", "a/seed1/judge", "b/seed0/judge", "b/other/judge"):
        (tmp_path / name).mkdir(parents=True)
    assert len(compare.expand(f"{tmp_path}/*/seed*/judge")) == 3
    assert compare.expand(f"{tmp_path}/a/*") == [f"{tmp_path}/a/seed0", f"{tmp_path}/a/seed1"]
    assert compare.expand("gone/*") == ["gone/*"]


def test_a_run_without_most_of_its_config_has_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"job": "pretrain"}')
    monkeypatch.setattr("jigclu_jax.studies.cost.read_checkpoint", lambda workdir: (1, {"images": 8}, {}))
    assert u_of_run(tmp_path) is None
