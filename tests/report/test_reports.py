"""The pages of the jobs, made from workdirs as runs leave them: finished, unfinished, empty, of version 0.1.0, with hostile names."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from jigclu_jax.metrics import MetricSpec, accuracy_spec, loss_spec
from jigclu_jax.report import pictures
from jigclu_jax.report.pages import JOBS, write_page
from jigclu_jax.report.sections import describe
from jigclu_jax.report.workdir_files import Run, read_run, save_picture
from jigclu_jax.train.writers import JsonlWriter

Parse = Callable[[Path], Any]
MODEL = {"arch": "resnet50", "stem": "imagenet", "width": 1.0}
SPECS = [loss_spec("loss", "loss", 9.7), accuracy_spec("accuracy_retrieval", "patch retrieval", 0.01), MetricSpec("rate", "learning rate")]
PROBE_SPECS = [loss_spec("loss", "loss"), accuracy_spec("probe_top1", "top-1, validation", 0.1)]
HOSTILE = "</td><script>alert('ü')</script>"


def make(
    workdir: Path,
    job: str,
    result: Mapping[str, Any] | None = None,
    rows: Sequence[Mapping[str, float]] = (),
    specs: Sequence[MetricSpec] = (),
    **config: Any,
) -> Path:
    """A workdir with these files."""
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps({"job": job, "seed": 3, "epochs": 2, "model": MODEL, **config}))
    if rows:
        writer = JsonlWriter(workdir)
        for step, row in enumerate(rows, 1):
            writer.write(step, row)
        writer.close()
    if specs:
        (workdir / "metric_specs.json").write_text(json.dumps([asdict(spec) for spec in specs]))
    if result is not None:
        (workdir / "result.json").write_text(
            json.dumps({"job": job, "seed": 3, "seconds": 754, "version": "9.9", "commit": None, **result})
        )
    return workdir


def make_pretrain(workdir: Path, result: Mapping[str, Any] | None = {}, specs: Sequence[MetricSpec] = SPECS) -> Path:
    rows = [{"epoch": n / 4, "loss": 9 - n / 8, "accuracy_retrieval": n / 16, "rate": 0.1 / n} for n in range(1, 9)]
    config = {"method": {"name": "jigclu"}, "data": {"image_size": 224, "source": "folder"}, "batch_size": 256}
    return make(workdir, "pretrain", result, rows, specs, **config)


PROBE = {
    **{"probe_top1_last": 0.7, "probe_top1_last_interval": [0.65, 0.742], "probe_top1_best": 0.8, "probe_top5_last": None},
    **{"probe_top1_random_init": 0.35, "probe_top1_random_init_interval": [0.3, 0.4]},
}


def make_probe(workdir: Path, specs: Sequence[MetricSpec] = PROBE_SPECS, **changed: Any) -> Path:
    rows = [{"epoch": n, "loss": 1 / n, "probe_top1": 0.2 * n} for n in range(1, 5)]
    return make(workdir, "probe", PROBE | changed, rows, specs)


@pytest.fixture
def parse(parse_html: Callable[[str], Any]) -> Parse:
    """The page that the workdir gets, parsed."""

    def parse(workdir: Path) -> Any:
        path = write_page(workdir)
        assert Path(path) == workdir / "report.html"
        return parse_html(Path(path).read_text(encoding="utf-8"))

    return parse


def test_a_pretraining_shows_outcome_curves_pictures_and_how_to_repeat_it(tmp_path: Path, parse: Parse) -> None:
    workdir = make_pretrain(tmp_path / "my run")
    for name in ("patches", "montages"):
        save_picture(workdir, name, pictures.picture(np.full((4, 6, 3), 99, np.uint8), 6).svg)
    page = parse(workdir)
    assert page.sections == ["Outcome", "Curves", "What the network sees", "Setting", "How to repeat", "Files"]
    assert page.row("patch retrieval") == ["50.0 %", "1.0 %"] and page.row("loss") == ["8", "9.7"]
    assert page.row("time") == ["12:34"] and page.row("seed") == ["3"] and page.row("epochs") == ["2 of 2"]
    assert page.alts == ["Loss over the run", "Patch retrieval over the run", "Learning rate over the run", "montages", "patches"]
    assert [data.decode() for _, data in page.images[3:]] == [(workdir / f"pictures/{name}.svg").read_text() for name in page.alts[3:]]
    assert "nothing learned, 9.7" in page.images[0][1].decode() and "chance, 1 %" in page.images[1][1].decode()
    assert any("jigclu, resnet50 (ImageNet stem), 224 pixels, batch 256, 2 epochs, folder data" in text for text in page.text)
    assert f"python -m jigclu_jax --config='{workdir}/config.json' --workdir=NEW" in page.text
    assert page.row("config.json") and page.row("metric_specs.json") and page.notices == []


def test_an_older_workdir_without_specs_has_every_curve(tmp_path: Path, parse: Parse) -> None:
    workdir = make_pretrain(tmp_path / "run", specs=())
    (workdir / "pictures").mkdir()
    (workdir / "pictures" / "montages.png").write_bytes(b"\x89PNG...")
    page = parse(workdir)
    assert page.alts == ["Loss over the run", "Accuracy retrieval over the run", "Rate over the run", "montages"]
    assert page.images[-1] == ("image/png", b"\x89PNG...") and page.row("accuracy retrieval") == ["50.0 %", "–"]  # noqa: RUF001


def test_a_probe_shows_every_accuracy_with_interval_random_weights_and_guessing(tmp_path: Path, parse: Parse) -> None:
    page = parse(make_probe(tmp_path / "run"))
    assert page.sections[:3] == ["Accuracy", "Curves", "The run"]
    assert page.rows[:5] == [
        ["validation images", "accuracy", "95 % interval"],
        ["top-1, last epoch", "70.0 %", "65.0 to 74.2 %"],
        ["top-1, last epoch, random weights", "35.0 %", "30.0 to 40.0 %"],
        ["top-1, best epoch", "80.0 %", "–"],  # noqa: RUF001
        ["top-1, guessing", "10.0 %", "–"],  # noqa: RUF001
    ]
    drawing = page.images[1][1].decode()
    assert "random weights, 35 %" in drawing and "chance, 10 %" in drawing and page.notices == []


@pytest.mark.parametrize(("own", "told"), [(0.3, ["not trained enough"]), (0.41, ["overlap"]), (0.7, [])])
def test_random_weights_that_are_as_good_are_told_at_the_top(tmp_path: Path, parse: Parse, own: float, told: list[str]) -> None:
    page = parse(make_probe(tmp_path / "run", probe_top1_last=own, probe_top1_last_interval=[own - 0.05, own + 0.05]))
    assert len(page.notices) == len(told) and all(words in notice for words, notice in zip(told, page.notices, strict=True))


def test_metrics_of_which_guessing_is_always_right_are_left_out(tmp_path: Path, parse: Parse) -> None:
    specs = [accuracy_spec("probe_top1", "top-1, validation", 0.25), accuracy_spec("probe_top5", "top-5, validation", 1.0)]
    rows = [{"epoch": 1, "probe_top1": 0.5, "probe_top5": 1.0}]
    page = parse(make(tmp_path / "run", "probe", {"probe_top1_last": 0.5}, rows, specs))
    assert page.alts == ["Top-1 over the run"] and not any("top-5" in text for text in page.text)


FIGURES = {"finetune_top1_last": 0.3, "finetune_top1_last_interval": [0.2, 0.4], "finetune_top1_best": 0.4, "finetune_top5_last": 0.9}


def test_every_start_of_a_fine_tuning_has_its_figures_and_the_search_its_best(tmp_path: Path, parse: Parse) -> None:
    trials = [{"learning_rate": rate, "weight_decay": 0.0, "top1": top1} for rate, top1 in ((0.01, 0.5), (0.1, None))]
    controls = {"random": FIGURES | {"finetune_top1_last": 0.35, "chosen": {"learning_rate": 0.1}}}
    result = FIGURES | {"init": "checkpoint", "chosen": {"learning_rate": 0.01}, "search": trials, "controls": controls}
    workdir = make(tmp_path / "run", "finetune", result)
    # the rows of a search lie in the folder of the run that counts
    rows = [{"epoch": n, "loss": 1.0, "finetune_top1": 0.3} for n in (1, 2)]
    make(workdir / "final", "finetune", None, rows, [loss_spec("loss", "loss"), accuracy_spec("finetune_top1", "top-1, held out", 0.1)])
    page = parse(workdir)
    assert page.sections[:4] == ["Accuracy", "Search", "Curves", "The run"]
    assert page.row("pretrained backbone, top-1, last epoch") == ["30.0 %", "20.0 to 40.0 %", "learning rate 0.01"]
    assert page.row("from scratch, top-1, last epoch") == ["35.0 %", "20.0 to 40.0 %", "learning rate 0.1"]
    assert page.row("top-1, guessing")[0] == "10.0 %" and page.row("0.1") == ["0", "diverged", "–"]  # noqa: RUF001
    assert page.attributes.count(("class", "best")) == 2 and len(page.notices) == 1
    assert page.alts == ["Loss over the run", "Top-1 over the run"]


def test_an_evaluation_has_a_section_for_each_of_its_parts(tmp_path: Path, parse: Parse) -> None:
    names = [HOSTILE, "\N{CJK UNIFIED IDEOGRAPH-732B}"]
    heads = [{"learning_rate": rate, "weight_decay": 0.0, "held_out_top1": rate} for rate in (0.1, 0.3)]
    result = {
        **{"probe_top1_last": 0.6, "probe_top1_last_interval": [0.5, 0.7], "probe_top1_random_init": 0.2, "classes": 2},
        **{"knn_top1_weighted_20": 0.5, "knn_top1_weighted_20_interval": [0.4, 0.6], "other_top1": 0.4, "other_top1_interval": [0.1, 0.5]},
        **{"rank_features": 12.5, "rank_features_random_init": 3.0, "heads": heads, "head": heads[1], "oddities": [HOSTILE]},
        **{"confusion": [[3, 1], [0, 6]], "class_top1": dict(zip(names, (0.75, 1.0), strict=True)), "class_top1_interval": {}},
    }
    workdir = make(tmp_path / "run", "evaluate", result, model={})
    for name in ("confusion", "map", "neighbours", "pretext"):
        save_picture(workdir, name, "<svg/>")
    page = parse(workdir)
    assert page.sections == [
        *("Accuracy", "Heads", "Spread of the features", "Classes", "Nearest neighbours", "Map of the features"),
        *("Where the head of the pretraining is wrong", "The evaluation", "Setting", "How to repeat", "Files"),
    ]
    assert page.alts == ["confusion", "neighbours", "map", "pretext"]
    assert page.row("top-1, linear heads, best of the grid, random weights")[0] == "20.0 %"
    assert page.row("top-1, kNN, weighted vote, k = 20") == ["50.0 %", "40.0 to 60.0 %"]
    assert page.row("top-1, other head of the pretraining")[0] == "40.0 %" and page.row("top-1, guessing")[0] == "50.0 %"
    assert page.row("effective rank, features") == ["12.5", "3"] and page.row("0.3") == ["30.0 %"]
    assert [page.row(name)[0] for name in names] == ["4", "6"] and page.notices == [f"{HOSTILE}."]


DEMO = {
    "probe_top1": {"JigClu pretraining": 0.718, "random initialisation": 0.413, "raw pixels": 0.342, "colour histogram": None},
    "probe_top1_interval": {"JigClu pretraining": [0.7, 0.734]},
    "seconds_by_step": {"pretrain": 187.2},
    "probe_top1_last": 0.718,
    "probe_top1_random_init": 0.413,
}


def test_the_demos_page_stands_on_its_runs(tmp_path: Path, parse: Parse) -> None:
    workdir = make(tmp_path / "demo", "demo", DEMO)
    make_pretrain(workdir / "pretrain")
    make_probe(workdir / "probe")
    page = parse(workdir)
    assert page.sections[:4] == ["Linear probes", "Pretraining", "The probe", "Time"]
    assert page.row("JigClu pretraining")[:2] == ["71.8 %", "70.0 to 73.4 %"] and page.row("raw pixels")[2] == "no backbone"
    assert page.row("colour histogram")[0] == "–" and page.row("pretrain") == ["3:07"]  # noqa: RUF001
    assert len(page.alts) == 3 + 2 and page.tags.count("details") == 3


@pytest.mark.parametrize("job", sorted(JOBS))
def test_unfinished_or_empty_workdir_still_has_a_page(tmp_path: Path, job: str, parse: Parse) -> None:
    assert parse(tmp_path / "empty").sections == ["Setting"]
    workdir = make_pretrain(tmp_path / "run", result=None)
    (workdir / "config.json").write_text(json.dumps({"job": job}))
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')
    page = parse(workdir)
    assert len(page.notices) == 1 and page.sections[-3:] == ["Setting", "How to repeat", "Files"]


def test_names_of_metrics_are_escaped(tmp_path: Path, parse: Parse) -> None:
    specs = [accuracy_spec(HOSTILE, HOSTILE, 0.1)]
    page = parse(make(tmp_path / "run", "pretrain", {}, [{"epoch": 1, HOSTILE: 0.5}], specs, data={"path": HOSTILE}))
    assert page.row(HOSTILE) == ["50.0 %", "10.0 %"] and "script" not in page.tags


def test_describe_leaves_out_what_is_not_said() -> None:
    assert describe({}) == ""
    assert describe({"model": {"arch": "", "width": 0.0}, "epochs": 1, "method": "linear"}) == "linear, 1 epoch"
    assert describe({"model": MODEL | {"stem": "small", "width": 0.5}}) == "resnet50 (small-image stem, width 0.5)"


def test_an_empty_workdir_reads_as_nothing(tmp_path: Path) -> None:
    assert read_run(tmp_path) == Run(epath.Path(tmp_path), {}, {}, [], [], {})


def test_report_needs_neither_jax_nor_tensorflow() -> None:
    code = (
        "import sys; sys.modules.update(jax=None, tensorflow=None)\n"
        "from jigclu_jax.report import matrices, pages\n"
        "print([name for name in ('jax', 'tensorflow', 'flax', 'matplotlib.pyplot') if sys.modules.get(name)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
