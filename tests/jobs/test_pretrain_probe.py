"""End to end on a tiny backbone: pretrain, stop, go on, probe."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jobs import tiny
from named_errors import raises_naming
from PIL import Image
from scipy import stats
from tracked import calls, stand_in

import jigclu_jax
from jigclu_jax.config import read_config
from jigclu_jax.data.augment.crops import resize_and_centre_crop
from jigclu_jax.data.sources.toy import load_embedded
from jigclu_jax.errors import NonFiniteError, Preempted
from jigclu_jax.jobs import pretrain, probe, reporting
from jigclu_jax.report.pages import write_page
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.progress import duration
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.writers import JsonlWriter, read_metrics


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that nothing disturbed; beside it the page that it had after the first."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    config = tiny.pretrain_config()
    config.report.every = 1

    def kept(root: Path, live: bool = False) -> None:
        page = Path(write_page(root, live=live))
        if live:
            shutil.copy(page, workdir.parent / "live.html")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "write_page", kept)
        pretrain.run(config, workdir)
    return workdir


def without_clock(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in ("images_per_second", "input_wait")} for row in rows]


def assert_same_tree(left: Any, right: Any) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_files_of_a_run(straight: Path) -> None:
    result = json.loads((straight / "result.json").read_text())
    assert result["job"] == "pretrain" and result["seed"] == 0 and result["version"] == jigclu_jax.__version__
    assert result["images_per_second"] > 0 and result["seconds"] > 0
    assert result["probe_top1_last"] is None and result["probe_top1_random_init"] is None
    rows = read_metrics(straight)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert {
        "step", "epoch", "loss", "loss_cluster", "loss_location", "accuracy_location", "accuracy_retrieval",
        "gradient_norm", "images_per_second", "learning_rate",
    } <= rows[-1].keys()  # fmt: skip
    assert rows[-1]["epoch"] == 2.0 and rows[2]["epoch"] == 0.5
    # the cosine changes once an epoch: 0.03, then half of it
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.03] * 6 + [0.015] * 6)
    for row in rows:
        assert row["loss"] == pytest.approx(row["loss_cluster"] + row["loss_location"], rel=1e-5)
    step, meta, tree = read_checkpoint(straight)
    assert step == 12 and meta["config"]["job"] == "pretrain" and "striped star" in " ".join(meta["classes"])
    assert tree["params"].keys() == {"backbone", "projection", "location"}
    assert read_config(straight).to_dict() == tiny.pretrain_config().to_dict() | {"report": {"every": 1}}
    live, last = ((folder / name).read_text() for folder, name in ((straight.parent, "live.html"), (straight, "report.html")))
    assert 'http-equiv="refresh"' in live and 'http-equiv="refresh"' not in last
    assert live.count("data:image/svg") and live.count("data:image/svg") <= last.count("data:image/svg")


def test_the_loss_of_the_first_step_is_that_of_no_knowledge(straight: Path) -> None:
    # location: four places, log 4; clustering: near T / T0 * log(63) when no patch is told from another
    first = read_metrics(straight)[0]
    assert first["loss_location"] == pytest.approx(np.log(4), abs=0.35)
    assert first["loss_cluster"] == pytest.approx(0.3 / 0.07 * np.log(63), rel=0.1)


def test_a_run_that_was_stopped_goes_on_to_the_same_end(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at the end of the first epoch, and in the second; a tracker is told of one run, and of its report at the end."""
    config = tiny.pretrain_config()
    config.log.tracker = "trackio"
    write = JsonlWriter.write
    for stop_after in (6, 9):

        def stop_at(self: JsonlWriter, step: int, metrics: Mapping[str, Any], last: int = stop_after) -> None:
            write(self, step, metrics)
            if step == last:
                STOP.request()

        with monkeypatch.context() as patch, stand_in(tmp_path):
            patch.setattr(JsonlWriter, "write", stop_at)
            with pytest.raises(Preempted):
                pretrain.run(config, tmp_path / "run")
        STOP.clear()
        saved, _, _ = read_checkpoint(tmp_path / "run")
        assert stop_after <= saved <= stop_after + 1
        assert not (tmp_path / "run" / "result.json").exists()
    with stand_in(tmp_path) as file:
        pretrain.run(config, tmp_path / "run")
    told = calls(file)
    assert len({call[1]["name"] for call in told if call[0] == "init"}) == 1 and {call[1] for call in told if call[0] == "log"} == {
        *range(1, 13)
    }
    assert [call[0] for call in told].count("finish") == 3 and [call[0] for call in told[-2:]] == ["file", "finish"]
    assert without_clock(read_metrics(tmp_path / "run")) == without_clock(read_metrics(straight))
    assert_same_tree(read_checkpoint(tmp_path / "run")[2], read_checkpoint(straight)[2])


def test_a_complete_run_is_left_as_it_is(straight: Path) -> None:
    before = json.loads((straight / "result.json").read_text()) | {"commit": "the one that trained it"}
    (straight / "result.json").write_text(json.dumps(before))
    rows = read_metrics(straight)
    pretrain.run(tiny.pretrain_config(), straight)
    assert read_metrics(straight) == rows
    after = json.loads((straight / "result.json").read_text())
    assert (after["images_per_second"], after["commit"]) == (before["images_per_second"], "the one that trained it")


def test_a_run_that_was_killed_before_its_result_has_the_rate_it_measured(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    pretrain.run(tiny.pretrain_config(), tmp_path / "run")
    before, after = (json.loads((workdir / "result.json").read_text()) for workdir in (straight, tmp_path / "run"))
    assert after["images_per_second"] == before["images_per_second"] > 0
    assert after["seconds"] == pytest.approx(read_checkpoint(straight)[1]["seconds"], abs=1)


def test_last_and_best_checkpoints_are_kept(tmp_path: Path) -> None:
    config = tiny.pretrain_config(epochs=4, place="device")
    config.data.limit = 32  # 2 steps an epoch
    config.saving.best_metric, config.saving.best_mode = "learning_rate", "max"  # falls: the first epoch is the best
    pretrain.run(config, tmp_path / "run")
    kept = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == [2, 6, 8]
    assert read_checkpoint(tmp_path / "run", "best")[0] == 2
    assert read_checkpoint(tmp_path / "run", "last")[0] == 8


def test_a_damaged_newest_checkpoint_is_passed_over(straight: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(straight, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints" / "12" / "state").rglob("*"):
        if file.is_file() and file.name not in ("commit_success.txt",):
            file.write_bytes(b"damaged")
    pretrain.run(tiny.pretrain_config(), tmp_path / "run")
    assert "checkpoint 12" in caplog.text and "cannot be read" in caplog.text
    assert without_clock(read_metrics(tmp_path / "run")) == without_clock(read_metrics(straight))
    assert_same_tree(read_checkpoint(tmp_path / "run")[2], read_checkpoint(straight)[2])


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = tiny.pretrain_config(place="device")
    config.optimizer.update({"learning_rate": 1e9, "schedule": "step", "milestones": (1,), "gamma": 1e-9, "warmup_epochs": 0.0})
    config.saving.every_epochs = 1 / 6
    with pytest.raises(
        NonFiniteError, match=r"since step [23] \(loss (nan|inf).*gradient_norm.*last checkpoint is kept.* and 8 more, all in"
    ):
        pretrain.run(config, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    # an oracle by the definition of the order alone
    order = np.random.Generator(np.random.Philox(key=np.array([0, 0], np.uint64), counter=np.zeros(4, np.uint64))).permutation(96)
    assert [one["index"] for one in told["examples"]] == order[16 * (told["step"] - 1) :][:16].tolist()
    assert told["step"] in (2, 3) and told["epoch"] == 0 and told["metrics"]["loss"] is None and told["metrics"]["learning_rate"] > 0
    assert len({one["name"] for one in told["examples"]}) == 16
    step, _, tree = read_checkpoint(tmp_path / "run")
    assert step in (1, 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree["sums"]))
    assert not (tmp_path / "run" / "result.json").exists()


def test_probe_of_a_run(straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny.probe_config(str(straight), place="device")
    config.random_init = True
    probe.run(config, tmp_path / "probe")
    result = json.loads((tmp_path / "probe" / "result.json").read_text())
    rows = [row for row in read_metrics(tmp_path / "probe") if row.get("probe_top1") is not None]
    assert [row["epoch"] for row in rows] == [1.0, 2.0]
    assert result["probe_top1_last"] == rows[-1]["probe_top1"]
    assert result["probe_top1_best"] == max(row["probe_top1"] for row in rows)
    assert result["probe_top5_last"] == rows[-1]["probe_top5"] >= result["probe_top1_last"]
    assert 0 <= result["probe_top1_random_init"] <= 1
    assert (result["seed"], result["eval_images"]) == (0, 40)
    names = ("top1_last", "top1_best", "top5_last", "top5_best", "top1_random_init", "top1_best_random_init")
    page = (tmp_path / "probe" / "report.html").read_text()
    said, heard = capsys.readouterr()
    assert f"trained in {duration(result['seconds'])}, " in heard
    for name in (f"probe_{name}" for name in names):
        # the bootstrap's own distribution, without drawing: within an image of its quantiles
        exact = stats.binom.ppf([0.025, 0.975], 40, result[name]) / 40
        low, high = result[f"{name}_interval"]
        assert (low, high) == pytest.approx(exact, abs=1.01 / 40) and low <= result[name] <= high
        assert f"{name} {100 * result[name]:.2f} %  (95 % interval {100 * low:.2f} to {100 * high:.2f}, seed 0)" in said
        if name in ("probe_top1_last", "probe_top1_best", "probe_top5_last", "probe_top1_random_init"):
            assert f"{100 * low:.1f} to {100 * high:.1f} %" in page
    assert result["backbone_unchanged"] is True and result["checkpoint_step"] == 12
    backbone = read_checkpoint(straight)[2]
    probed = read_checkpoint(tmp_path / "probe")[2]
    for group in ("params", "stats"):
        assert_same_tree(probed[group]["backbone"], backbone[group]["backbone"])
    assert not any("backbone" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(probed["opt"]))


def whole_evaluation(straight: Path) -> Any:
    config = tiny.probe_config(str(straight), place="device")
    config.eval_data.limit = 0
    return config


@pytest.fixture(scope="module")
def probed(straight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("probed") / "probe"
    probe.run(whole_evaluation(straight), workdir)
    return workdir


def test_probe_figures_are_those_of_the_saved_classifier(straight: Path, probed: Path) -> None:
    """An oracle that shares nothing with the evaluation loop: features by the encoder, accuracy by numpy."""
    result = json.loads((probed / "result.json").read_text())
    images, labels, _ = load_embedded("validation")
    if images.shape[1] != 32:
        images = np.stack([resize_and_centre_crop(image, 32, 32) for image in images])
    head = read_checkpoint(probed)[2]["params"]["classifier"]
    scores = jigclu_jax.load_encoder(straight)(images) @ head["kernel"] + head["bias"]
    order = np.argsort(-scores, axis=1)
    assert result["probe_top1_last"] == pytest.approx((order[:, 0] == labels).mean(), abs=2 / len(labels))
    assert result["probe_top5_last"] == pytest.approx((order[:, :5] == labels[:, None]).any(1).mean(), abs=3 / len(labels))


def test_images_left_out_are_in_no_figure_and_no_interval(straight: Path, tmp_path: Path) -> None:
    """Of 40 evaluation images in two batches of 32 (24 rows are padding), the 10 smallest are left out."""
    images, labels, _ = load_embedded("validation")
    root = tmp_path / "set"
    for split, count in (("train", 32), ("val", 40)):
        for number in range(count):
            folder = root / split / str(labels[number] % 2)
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(images[number])
            small = split == "val" and number % 4 == 0
            (picture.resize((8, 8)) if small else picture).save(folder / f"{number}.png")
    config = tiny.probe_config(str(straight), epochs=1)
    config.data.update({"source": "folder", "path": str(root), "limit": 0})
    config.eval_data.update({"split": "val", "limit": 0, "on_error": "skip", "min_side": 20})
    probe.run(config, tmp_path / "probe")
    result = json.loads((tmp_path / "probe" / "result.json").read_text())
    assert result["eval_images"] == 30
    right = 30 * result["probe_top1_last"]
    assert right == pytest.approx(round(right)) and all(
        30 * end == pytest.approx(round(30 * end)) for end in result["probe_top1_last_interval"]
    )


def test_rows_of_an_earlier_version_have_intervals_of_all_images(straight: Path, probed: Path, tmp_path: Path) -> None:
    shutil.copytree(probed, tmp_path / "probe")
    path = tmp_path / "probe" / "metrics.jsonl"
    before = json.loads((tmp_path / "probe" / "result.json").read_text())
    rows = [{name: value for name, value in row.items() if name != "eval_images"} for row in read_metrics(tmp_path / "probe")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    probe.run(whole_evaluation(straight), tmp_path / "probe")
    after = json.loads((tmp_path / "probe" / "result.json").read_text())
    assert {name: after[name] for name in before if "probe" in name or name == "eval_images"} == {
        name: before[name] for name in before if "probe" in name or name == "eval_images"
    }


def test_a_probe_that_was_stopped_goes_on(straight: Path, probed: Path, tmp_path: Path) -> None:
    STOP.request()
    with pytest.raises(Preempted):
        probe.run(whole_evaluation(straight), tmp_path / "cut")
    STOP.clear()
    probe.run(whole_evaluation(straight), tmp_path / "cut")
    assert without_clock(read_metrics(tmp_path / "cut"))[-1] == without_clock(read_metrics(probed))[-1]
    assert_same_tree(read_checkpoint(tmp_path / "cut")[2], read_checkpoint(probed)[2])


def test_probe_refuses_a_backbone_that_is_another(straight: Path, tmp_path: Path) -> None:
    config = tiny.probe_config(str(straight), place="device")
    config.model.arch = "resnet34"
    with raises_naming("model.arch", "'resnet10'"):
        probe.run(config, tmp_path / "probe")
    assert not (tmp_path / "probe").exists()


def test_a_backbone_trained_with_labels_is_probed_and_padding_never_reaches_batch_norms_statistics(tmp_path: Path) -> None:
    """100 images in batches of 16: a backbone in training sees the 6 whole ones, a probe, whose backbone stands still, the rest as well."""
    config = tiny.pretrain_config(epochs=1, method="supervised", place="device")
    config.data.limit = 100
    pretrain.run(config, tmp_path / "labels")
    assert [row["step"] for row in read_metrics(tmp_path / "labels")] == list(range(1, 7))
    assert "accuracy_top1" in read_metrics(tmp_path / "labels")[-1]
    config = tiny.probe_config(str(tmp_path / "labels"), epochs=1, place="device")
    config.data.limit = 100
    probe.run(config, tmp_path / "probe")
    assert [row["step"] for row in read_metrics(tmp_path / "probe")][-1] == 7
    assert json.loads((tmp_path / "probe" / "result.json").read_text())["probe_top1_last"] is not None
    config = tiny.pretrain_config(epochs=1, method="supervised", place="device")
    config.data.limit = 15
    with raises_naming("15 images", "config.batch_size=16"):
        pretrain.run(config, tmp_path / "few")


@pytest.mark.parametrize("augment", ["device", "resident"])
def test_images_that_were_left_out_are_named_in_the_workdir(tmp_path: Path, capsys: pytest.CaptureFixture[str], augment: str) -> None:
    for index in range(20):
        path = tmp_path / "images" / "train" / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    (tmp_path / "images" / "train" / "a" / "04.png").write_bytes(b"")
    config = tiny.pretrain_config(epochs=1, place="device")
    config.data.update({"source": "folder", "path": str(tmp_path / "images"), "limit": 0, "on_error": "skip", "augment": augment})
    config.batch_size = 20  # all of them
    if augment == "resident":  # which reads them all before the first step
        STOP.request()
        with pytest.raises(Preempted):
            pretrain.run(config, tmp_path / "run")
        STOP.clear()
    else:
        pretrain.run(config, tmp_path / "run")
        assert json.loads((tmp_path / "run" / "result.json").read_text())["images_skipped"] == 1
    listed = (tmp_path / "run" / "images_skipped.txt").read_text().splitlines()
    assert len(listed) == 1 and "a/04.png" in listed[0]
    assert f"1 image left out (on_error=skip): {tmp_path}/run/images_skipped.txt names them" in capsys.readouterr().err
