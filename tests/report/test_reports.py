"""The three reports, gathered from workdirs as runs leave them: finished, unfinished, empty."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jigclu_jax.config import pretrain_config, probe_config
from jigclu_jax.report.demo_report import demo_page
from jigclu_jax.report.finetune_report import start_table
from jigclu_jax.report.page import Share
from jigclu_jax.report.pretrain_report import describe, pretrain_page
from jigclu_jax.report.probe_report import probe_page
from jigclu_jax.report.workdir_files import Run, read_run, save_picture
from jigclu_jax.train.writers import JsonlWriter

Parse = Callable[[Path], Any]


def make_pretrain(workdir: Path) -> None:
    config = pretrain_config()
    config.epochs = 2
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(config.to_json_best_effort())
    writer = JsonlWriter(workdir)
    for step in range(1, 9):
        metrics = {"loss": 9.0 - step / 8, "loss_cluster": 8.0 - step / 8, "loss_location": 1.0, "learning_rate": 0.03}
        writer.write(step, {"epoch": step / 4, **metrics, "accuracy_retrieval": step / 16, "images_per_second": 600.0})
    writer.close()
    (workdir / "result.json").write_text(json.dumps({"job": "pretrain", "seconds": 754, "seed": 3, "version": "9.9", "commit": None}))
    save_picture(workdir, "montages", Image.fromarray(np.full((40, 60, 3), 99, np.uint8)))
    save_picture(workdir, "patches", Image.fromarray(np.full((20, 30, 3), 7, np.uint8)))


def make_probe(workdir: Path) -> None:
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(probe_config().to_json_best_effort())
    writer = JsonlWriter(workdir)
    for epoch in range(1, 5):
        writer.write(epoch * 10, {"epoch": epoch, "loss": 1 / epoch, "probe_top1": 0.2 * epoch, "probe_top5": 0.9})
    writer.close()
    result = {
        "probe_top1_last": 0.7,
        "probe_top1_last_interval": [0.65, 0.742],
        "probe_top1_best": 0.8,
        "probe_top5_last": 0.9,
        "probe_top1_random_init": 0.35,
        "seconds": 12.0,
    }
    (workdir / "result.json").write_text(json.dumps({"job": "probe", **result}))


@pytest.fixture
def parse(parse_html: Callable[[str], Any]) -> Parse:
    return lambda path: parse_html(path.read_text(encoding="utf-8"))


def test_pretrain_page_gathers_the_workdir(tmp_path: Path, parse: Parse) -> None:
    make_pretrain(tmp_path / "run")
    assert str(pretrain_page(tmp_path / "run")) == str(tmp_path / "run" / "report.html")
    parsed = parse(tmp_path / "run" / "report.html")
    text = " ".join(parsed.text)
    assert "resnet50 (ImageNet stem), 2 by 2 patches, 224 pixels, batch 256, 2 epochs" in text
    assert "patch retrieval 50.0 %" in text and "time 12:34" in text and "seed 3" in text and "2 of 2" in text
    pngs = [data for kind, data in parsed.images if kind == "image/png"]
    assert pngs == [(tmp_path / "run" / "pictures" / f"{name}.png").read_bytes() for name in ("montages", "patches")]
    drawings = [data.decode() for kind, data in parsed.images if kind == "image/svg+xml"]
    titles = ["Loss", "Clustering loss", "Location loss", "Patch retrieval", "Learning rate", "Images per second"]
    assert len(drawings) == len(titles)
    for title, drawing in zip(titles, drawings, strict=True):
        assert f">{title}<" in drawing
    assert "base_temperature 0.07" in text and "Python" in parsed.text and "numpy" in parsed.text


def test_probe_page_shows_every_figure(tmp_path: Path, parse: Parse) -> None:
    make_probe(tmp_path / "run")
    probe_page(tmp_path / "run", classes=10)
    parsed = parse(tmp_path / "run" / "report.html")
    text = " ".join(parsed.text)
    for figure in (
        "top-1, last epoch 70.0 % 65.0 to 74.2 %",
        "top-1, best epoch 80.0 %",
        "top-5, last epoch 90.0 %",
        "top-1, backbone with random weights 35.0 %",
        "top-1, guessing 10.0 %",
    ):
        assert figure in text
    drawings = " ".join(data.decode() for kind, data in parsed.images)
    assert "random backbone, 35 %" in drawings and "chance, 10 %" in drawings and "top-5, validation" in drawings


RESULTS = {
    "probe_top1": {
        "JigClu pretraining": 0.718,
        "random initialisation": 0.413,
        "trained with labels": 0.913,
        "raw pixels": 0.342,
        "colour histogram": None,
        "chance": 0.1,
    },
    "probe_top1_interval": {"JigClu pretraining": (0.7, 0.734)},
    "seconds": {"pretraining": 187.2, "all": 290},
    "seeds": 3,
}


def test_demo_page_stands_on_both_runs(tmp_path: Path, parse: Parse) -> None:
    make_pretrain(tmp_path / "pretrain")
    make_probe(tmp_path / "probe")
    demo_page(tmp_path, RESULTS)
    parsed = parse(tmp_path / "report.html")
    text = " ".join(parsed.text)
    assert "71.8 % top-1 in a linear probe, 30.5 points above the same backbone with random weights" in text
    start = parsed.text.index("JigClu pretraining")
    assert parsed.text[start : start + 3] == ["JigClu pretraining", "71.8 %", "70.0 to 73.4 %"]
    for row in ("trained with labels 91.3 %", "raw pixels 34.2 %", "colour histogram –", "chance 10.0 %", "pretraining 3:07", "all 4:50"):  # noqa: RUF001
        assert row in text
    assert "seeds 3" in text
    kinds = [kind for kind, _ in parsed.images]
    assert kinds.count("image/png") == 2 and kinds.count("image/svg+xml") == 6 + 2


def test_demo_page_says_so_when_pretraining_lost(tmp_path: Path, parse: Parse) -> None:
    demo_page(tmp_path, {"probe_top1": {"JigClu pretraining": 0.3, "random initialisation": 0.4}})
    assert "10.0 points below" in " ".join(parse(tmp_path / "report.html").text)


@pytest.mark.parametrize("write", [pretrain_page, probe_page])
def test_unfinished_or_empty_workdir_still_has_a_page(tmp_path: Path, write: object, parse: Parse) -> None:
    assert callable(write)
    write(tmp_path / "empty")
    parse(tmp_path / "empty" / "report.html")
    make_pretrain(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')
    write(tmp_path / "run")
    assert "last logged step 8" in " ".join(parse(tmp_path / "run" / "report.html").text)


def test_describe_leaves_out_what_is_not_said() -> None:
    assert describe({}) == ""
    assert describe(probe_config().to_dict()).startswith("224 pixels, batch 256, 100 epochs")
    config = pretrain_config()
    config.model.width, config.model.stem, config.method.grid = 0.5, "small", 3
    assert describe(config.to_dict()).startswith("resnet50 (small-image stem, width 0.5), 3 by 3 patches, ")


def test_pictures_are_read_back_in_order(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    for name in ("patches", "montages"):
        save_picture(tmp_path, name, picture)
    run = read_run(tmp_path)
    assert list(run.pictures) == ["montages", "patches"] and run.rows == [] and run.result == {}


def test_report_needs_neither_jax_nor_tensorflow() -> None:
    code = (
        "import sys; sys.modules.update(jax=None, tensorflow=None)\n"
        "from jigclu_jax.report import curves, demo_report, page, pictures, pretrain_report, probe_report, workdir_files\n"
        "print([name for name in ('jax', 'tensorflow', 'flax', 'matplotlib.pyplot') if sys.modules.get(name)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def test_every_start_of_a_fine_tuning_has_its_figures_and_intervals() -> None:
    figures = {f"finetune_{name}": value for name, value in (("top1_last", 0.3), ("top1_best", 0.4), ("top5_last", 0.9))}
    own = {"init": "checkpoint", "chosen": {"learning_rate": 0.01}, **figures, "finetune_top1_last_interval": [0.2, 0.4]}
    result = own | {"controls": {"random": figures | {"chosen": {"learning_rate": 0.1}}}}
    table = start_table(Run({}, result, [], {}), 10)
    assert [row[0] for row in table.rows[:4]] == [
        *(f"pretrained backbone, {what}" for what in ("top-1, last epoch", "top-1, best epoch", "top-5, last epoch")),
        "from scratch, top-1, last epoch",
    ]
    assert [row[1] for row in table.rows] == [Share(value) for value in (0.3, 0.4, 0.9, 0.3, 0.4, 0.9, 0.1, 0.5)]
    assert table.rows[0][2:] == ("20.0 to 40.0 %", "learning rate 0.01") and table.rows[3][2:] == (None, "learning rate 0.1")
