"""The page of a run that trains: written when it is due, and never what ends the run."""

from pathlib import Path

import pytest
from tiny_checkpoint import make_workdir

from jigclu_jax.jobs.reporting import live_page
from jigclu_jax.train.loop import Plan

PLAN = Plan(total_steps=60, steps_per_epoch=10, log_every=5, save_every=10)


def test_it_is_written_every_so_many_epochs_but_the_last(tmp_path: Path) -> None:
    run = make_workdir(tmp_path / "run")
    (hook,) = live_page(2, PLAN, run)
    due = []
    for step in range(10, 70, 10):
        assert hook.measure(step, None) == {}  # type: ignore[arg-type]
        due.append((run / "report.html").exists())
        (run / "report.html").unlink(missing_ok=True)
    assert due == [False, True, False, True, False, False] and not hook.metrics
    assert not live_page(0, PLAN, run)


def test_one_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_workdir(tmp_path / "run")
    (run / "metrics.jsonl").write_text("no row\n{}\n")
    (hook,) = live_page(1, PLAN, run)
    hook.measure(10, None)  # type: ignore[arg-type]
    assert "metrics.jsonl" in caplog.text and not (run / "report.html").exists()
