"""`jigclu runs`: what it says of runs that are complete, stopped, running, damaged, and of what is no run."""

import json
import shutil
from pathlib import Path

import pytest
from etils import epath
from named_errors import raises_naming

from jigclu_jax.__main__ import main
from jigclu_jax.config import pretrain_config, probe_config
from jigclu_jax.jobs.runs import COLUMNS, command, table
from jigclu_jax.metrics import accuracy_spec, loss_spec
from jigclu_jax.train.claim import claimed_folder, holder_of
from jigclu_jax.train.workdir import config_as_dict, write_result

SPECS = [loss_spec("loss", "loss"), accuracy_spec("accuracy_retrieval", "retrieval accuracy", 0.01, "retrieval")]


def _run(folder: Path, *, accuracies: tuple[float | None, ...] = (0.1, 0.5, 0.25), complete: bool = True, checkpoint: int = 0) -> Path:
    """A pretraining of three epochs as a job leaves it, without arrays."""
    config = pretrain_config()
    config.model.arch, config.epochs = "resnet18", 3
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_as_dict(config)))
    rows = [{"step": 40 * (i + 1), "epoch": i + 1.0, "loss": 9.0 - i, "accuracy_retrieval": one} for i, one in enumerate(accuracies)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "metric_specs.json").write_text(json.dumps([vars(spec) for spec in SPECS]))
    if complete:
        write_result(folder, {"job": "pretrain"})
    if checkpoint:
        (folder / "checkpoints" / str(checkpoint)).mkdir(parents=True)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two whole runs, one within the other, and what must not be taken for one."""
    first = _run(tmp_path / "first")
    _run(tmp_path / "sweep" / "b", accuracies=(0.1, None), complete=False, checkpoint=40)
    (first / "exported_last").mkdir()
    for foreign in (first / "exported_last", tmp_path / "other"):
        foreign.mkdir(exist_ok=True)
        (foreign / "config.json").write_text('{"architecture": "resnet18"}')
    return tmp_path


def test_a_line_says_what_a_run_is_and_how_far(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(root)]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:6] == ["run", "job", "method", "model", "state", "epochs"]
    assert first.split()[:6] == ["first", "pretrain", "jigclu", "resnet18", "complete", "3/3"] and "retrieval 25.0 (50.0) %" in first
    assert second.startswith("sweep/b ") and "stopped 40" in second and " 2/3 " in second and "10.0 (10.0)" in second


def test_a_probe_and_a_result_alone(tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_as_dict(probe_config())))
    assert "not complete" in table(epath.Path(folder))[1]
    write_result(folder, {"job": "probe", "probe_top1_last": 0.425})
    assert "complete" in table(epath.Path(folder))[1] and "top-1 42.5 %" in table(epath.Path(folder))[1]


def test_a_run_that_is_being_worked_on(root: Path) -> None:
    with claimed_folder(root / "sweep" / "b"):
        assert "running" in table(epath.Path(root))[2] and holder_of(root / "sweep" / "b")
    assert "stopped" in table(epath.Path(root))[2]
    (root / "sweep" / "b" / "claim").write_text("host process 1 since yesterday\n")  # of a process that was killed
    assert not holder_of(root / "sweep" / "b")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "{"),
        ("config.json", '{"job": "pretrain"}'),
        ("config.json", '{"job": 3}'),
        ("config.json", None),
        ("result.json", "[]"),
        ("result.json", "\x00"),
        ("metrics.jsonl", "no row\n{}\n"),
        ("metrics.jsonl", '{"step": 1, "loss": "much"}\n{"step": 2}\n'),
        ("metric_specs.json", '[{"name": 3}]'),
        ("metric_specs.json", '[{"name": "loss", "title": "loss", "better": 7, "unit": []}]'),
    ],
)
def test_a_damaged_run_is_one_line_and_hides_no_other(root: Path, file: str, text: str | None) -> None:
    before = table(epath.Path(root))
    damaged = Path(shutil.copytree(root / "first", root / "damaged"))
    (damaged / file).unlink() if text is None else (damaged / file).write_text(text)
    lines = table(epath.Path(root))
    assert len(lines) == len(before) + 1 and all(len(line) <= COLUMNS for line in lines)
    (own,) = (line for line in lines if line.startswith("damaged"))
    assert file.partition(".")[0] in own or "retrieval" not in own
    assert [line.split() for line in lines if line != own] == [line.split() for line in before]


def test_lines_fit_whatever_the_names(tmp_path: Path) -> None:
    _run(tmp_path / ("deep/" * 5) / ("a_run_with_a_very_long_name_" * 3), complete=False, checkpoint=123_456_789)
    lines = table(epath.Path(tmp_path))
    assert max(map(len, lines)) <= COLUMNS and "…" in lines[1] and "name_ " in lines[1]


def test_what_is_no_folder_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "file:///tmp/runs"]) == 2 and "folder=file:///tmp/runs" in capsys.readouterr().err
    assert table(epath.Path(tmp_path)) == [f"no runs in {tmp_path}"]
    with raises_naming("nowhere"):
        command([str(tmp_path / "nowhere")])
    assert main(["runs", str(tmp_path), "more"]) == 2 and "more" in capsys.readouterr().err
    assert main(["runs", "--bogus"]) == 2 and "--bogus" in capsys.readouterr().err
