"""Trackers: what is sent and under which name, by a stand-in; what fails stops nothing; the real packages, where there are some."""

import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming
from tracked import calls, stand_in

from jigclu_jax.config import pretrain_config
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.trackers import OpenRun, TrackerWriter, check_tracker, open_tracker, run_name, send_report
from jigclu_jax.train.writers import MetricWriter


def config(tracker: str) -> ConfigDict:
    made = pretrain_config()
    made.log.tracker = tracker
    return made


def track(tracker: str, workdir: Path, steps: tuple[int, ...], report: str = "") -> None:
    """A run, or a part of one, that logs these steps and may end with a report."""
    workdir.mkdir(exist_ok=True)
    with run_scope():
        writer = open_tracker(config(tracker), workdir)
        assert isinstance(writer, MetricWriter)
        for step in steps:
            writer.write(step, {"loss": 1 / step, "lost": float("nan")})
        writer.close()
        if report:
            (workdir / "report.html").write_text(report)
            send_report(workdir)


def test_a_run_that_goes_on_is_the_same_there_and_ends_with_its_report(tmp_path: Path) -> None:
    with stand_in(tmp_path) as file:
        track("trackio", tmp_path / "my run", (1, 2))
        track("trackio", tmp_path / "my run", (2, 3), "<p>curves</p>")
    (first, *rest), name = calls(file), run_name(tmp_path / "my run")
    assert name.startswith("my-run-") and first[1]["project"] == "jigclu_jax" and first[1]["name"] == name
    assert first[1]["config"]["optimizer"]["learning_rate"] == 0.03 and first[1]["resume"] == "allow"
    assert rest == [
        ["log", 1, {"loss": 1.0}],
        ["log", 2, {"loss": 0.5}],
        ["finish"],
        first,
        ["log", 2, {"loss": 0.5}],
        ["log", 3, {"loss": 1 / 3}],
        ["file", f"report-{name}", "<p>curves</p>"],
        ["finish"],
    ]


def test_one_that_fails_is_told_once_and_nothing_else_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    with stand_in(tmp_path) as file:
        track("trackio", tmp_path / "run", (1, 2, 3), "page")
    assert [call[0] for call in calls(file)] == ["init", "log"]
    assert len(caplog.records) == 1 and "trackio" in caplog.text and "no network" in caplog.text


def test_one_that_hangs_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    hangs = threading.Event()

    def never() -> OpenRun:
        hangs.wait()
        raise OSError("far too late")

    writer = TrackerWriter("wandb", never, patience=0.05)
    writer.write(1, {"loss": 1.0})
    writer.finish()
    hangs.set()
    writer._thread.join()
    assert len(caplog.records) == 1 and "wandb" in caplog.text


def test_a_package_that_is_missing_is_named_with_its_installation() -> None:
    check_tracker("")
    check_tracker("json")
    with raises_naming("config.log.tracker", "pip install no_such_tracker"):
        check_tracker("no_such_tracker")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
def test_real_packages_without_network(tmp_path: Path, tracker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    store.mkdir()
    monkeypatch.setattr("jigclu_jax.train.trackers._PATIENCE", 300.0)
    variables = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(store),
        "TRACKIO_DIR": str(store),
        "MLFLOW_TRACKING_URI": f"sqlite:///{store}/ml.db",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(store)
    pytest.importorskip(tracker)  # which may read its variables as it is imported
    track(tracker, run, (1, 2))
    track(tracker, run, (3,), "<p>curves</p>")
    name = run_name(run)
    if tracker == "wandb":
        logs = sorted(store.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))
        assert len(logs) == 2 and b"report.html" in logs[1].read_bytes()
        return
    mlflow = tracker == "mlflow"
    with sqlite3.connect(store / ("ml.db" if mlflow else "jigclu_jax.db")) as opened:
        query = "select step, value from metrics where key = 'loss'" if mlflow else "select step, metrics from metrics"
        rows = [(step, value if mlflow else json.loads(value)["loss"]) for step, value in opened.execute(query)]
        names = opened.execute("select distinct name from runs" if mlflow else "select distinct run_name from metrics").fetchall()
    assert sorted(rows) == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))] and names == [(name,)]
    assert any("curves" in Path(root, file).read_text(errors="ignore") for root, _, files in os.walk(store) for file in files)
