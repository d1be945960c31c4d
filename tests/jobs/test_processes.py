"""Real processes of one run: they agree at the start, one that fails or is killed ends the others, one that is stopped stops all."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import processes
import pytest
from jobs import tiny
from tiny_checkpoint import make_workdir

from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.writers import read_metrics

FAULTY = str(Path(__file__).with_name("faulty_process.py"))

pytestmark = pytest.mark.slow


def last_lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_processes_that_disagree_on_the_config_name_fields_and_processes(tmp_path: Path) -> None:
    commands = [processes.command(tmp_path / "run", optimizer__learning_rate=rate) for rate in (0.002, 0.5)]
    for code, text in processes.finish(processes.start_group(commands)):
        assert code == 2, text
        line = "error: the processes of this run do not agree: config.optimizer.learning_rate is 0.002 on process 0 and 0.5 on process 1"
        assert len(last_lines(text, line)) == 1 and "Traceback" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_mistake_that_one_process_meets_before_the_start_ends_both(tmp_path: Path, wrong: int) -> None:
    missing = {"data__source": "folder", "data__path": "/nonexistent"}
    commands = [processes.command(tmp_path / "run", **(missing if index == wrong else {})) for index in range(2)]
    said = processes.finish(processes.start_group(commands))
    for index, (code, text) in enumerate(said):
        assert code == 2, text
        who = "" if index == wrong else f"process {wrong}: "
        assert len(last_lines(text, f"error: {who}config.data: /nonexistent: no such folder")) == 1 and "Traceback" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fault", "wrong", "code", "line"),
    [
        ("image", 1, 2, "error: process 1: images[7]: damaged image"),
        ("disk", 0, 2, "error: process 0: {workdir} cannot be written any more: no space left on device"),
        ("bug", 1, 1, "failed: process 1 of this run has ended (ZeroDivisionError: division by zero)"),
    ],
)
def test_what_goes_wrong_in_one_process_ends_the_other_which_hangs(tmp_path: Path, fault: str, wrong: int, code: int, line: str) -> None:
    workdir = tmp_path / "run"
    command = processes.command(workdir, data__augment="device", epochs=100)
    commands = [[FAULTY, fault, *command[2:]] if index == wrong else command for index in range(2)]
    said = processes.finish(processes.start_group(commands))
    assert [found for found, _ in said] == [code, code], said
    assert len(last_lines(said[1 - wrong][1], line.format(workdir=workdir))) == 1, said
    assert "Traceback" not in said[1 - wrong][1]


def test_a_killed_process_ends_the_other_with_one_line(tmp_path: Path) -> None:
    group = processes.start_group([processes.command(tmp_path / "run", epochs=5000)] * 2)
    processes.wait_for_rows(tmp_path / "run", 3, group)
    group[1].kill()
    (code, text), _ = processes.finish(group)
    assert code == 1, text
    assert len(last_lines(text, "failed: ")) == 1 and "Traceback" not in text and "Check failure" not in text


def test_a_process_that_no_longer_answers_ends_the_other_after_the_stated_time(tmp_path: Path) -> None:
    group = processes.start_group([processes.command(tmp_path / "run", epochs=5000)] * 2, JIGCLU_HEARTBEAT_SECONDS="5")
    processes.wait_for_rows(tmp_path / "run", 3, group)
    group[1].send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    try:
        [(code, text)] = processes.finish(group[:1])
    finally:
        group[1].kill()
        group[1].communicate()
    assert code == 1, text
    assert len(last_lines(text, "failed: process 1 of this run has ended (nothing was heard of it for 5 seconds)")) == 1
    assert time.monotonic() - begun < 120  # JAX alone would have taken longer than its own limit


def test_sigterm_to_one_process_saves_at_one_step_and_stops_both(tmp_path: Path) -> None:
    command = processes.command(tmp_path / "run", epochs=5000)
    group = processes.start_group([command] * 2)
    processes.wait_for_rows(tmp_path / "run", 3, group)
    group[1].terminate()
    said = processes.finish(group)
    assert [code for code, _ in said] == [75, 75], said
    step = read_checkpoint(tmp_path / "run")[0]
    assert [f"stopped: stopped after step {step}" in text for _, text in said] == [True, True]
    rows = [row["step"] for row in read_metrics(tmp_path / "run")]
    assert rows == list(range(1, step + 1))
    # and a group of another size goes on
    more = processes.start(command, JAX_NUM_CPU_DEVICES="2")
    processes.wait_for_rows(tmp_path / "run", step + 2, [more])
    more.terminate()
    [(code, text)] = processes.finish([more])
    assert code == 75 and f"going on from step {step} of" in text


def test_a_probe_of_two_processes_has_the_figures_and_intervals_of_one(tmp_path: Path) -> None:
    """37 evaluation images in batches of 16: the rows of padding lie with the second process."""
    backbone = make_workdir(tmp_path / "backbone", tiny.pretrain_config())
    rng, shapes = np.random.default_rng(0), {"train": 32, "val": 37}
    arrays = {f"{split}_image": rng.integers(0, 256, (count, 32, 32, 3), np.uint8) for split, count in shapes.items()}
    arrays |= {f"{split}_label": rng.integers(0, 10, count) for split, count in shapes.items()}
    np.savez(tmp_path / "set.npz", **arrays, classes=list("abcdefghij"))
    fields = {"checkpoint": backbone, "data.source": "arrays", "data.path": tmp_path / "set.npz", "data.augment": "device"}
    fields |= {"eval_data.split": "val", "eval_batch_size": 16, "random_init": True}
    fields |= {"log.tensorboard": False, "log.pictures": False, "data.name": ""}

    def command(name: str) -> list[str]:
        config = f"--config={processes.ROOT}/configs/probe_cifar10.py:learning_rate=0.1,epochs=1,batch_size=16"
        given = [f"--config.{field}={value}" for field, value in fields.items()]
        return ["-m", "jigclu_jax", f"--workdir={tmp_path / name}", config, *given]

    said = processes.finish([*processes.start_group([command("two")] * 2), processes.start(command("one"))])
    assert [code for code, _ in said] == [0, 0, 0], said
    two, one = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("two", "one"))
    assert two["eval_images"] == one["eval_images"] == 37
    for name in (name for name in one if name.startswith("probe_top")):
        assert two[name] == pytest.approx(one[name], abs=1.5 / 37), name
    low, high = two["probe_top1_last_interval"]
    line = f"probe_top1_last {100 * two['probe_top1_last']:.2f} %  (95 % interval {100 * low:.2f} to {100 * high:.2f}, seed 0)"
    assert line in said[0][1] and line not in said[1][1], "one process speaks"
