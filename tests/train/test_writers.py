"""Metric writers: what stands in metrics.jsonl after any interruption, and TensorBoard's events read back."""

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from named_errors import raises_naming

from jigclu_jax import atomic_file
from jigclu_jax.errors import UserError
from jigclu_jax.train.writers import JsonlWriter, TensorBoardWriter, create_writer, read_metrics


def lines(workdir: Path) -> list[dict[str, float | None]]:
    text = (workdir / "metrics.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_each_step_is_one_whole_line_at_once(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path / "new" / "run")
    writer.write(50, {"loss": np.float32(1.5), "epoch": 0.25})
    assert lines(tmp_path / "new" / "run") == [{"step": 50, "epoch": 0.25, "loss": 1.5}]  # before any flush
    writer.write(100, {"loss": 1.25, "epoch": 0.5})
    writer.close()
    raw = (tmp_path / "new" / "run" / "metrics.jsonl").read_text()
    assert raw.splitlines()[0].startswith('{"step": 50, "epoch": 0.25, "loss"')
    assert [row["step"] for row in read_metrics(tmp_path / "new" / "run")] == [50, 100]


def test_non_finite_numbers_become_null(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    writer.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e-30})
    writer.close()

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert row == {"step": 1, "a": None, "b": None, "c": None, "d": 1e-30}


def test_resume_drops_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    for step in (10, 20, 30, 40):
        writer.write(step, {"loss": step / 7})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 50, "lo')
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20, 30, 40]
    writer = JsonlWriter(tmp_path, resume_step=20)
    assert lines(tmp_path) == [{"step": 10, "loss": 10 / 7}, {"step": 20, "loss": 20 / 7}]
    writer.write(30, {"loss": 0.5})
    writer.close()
    assert lines(tmp_path) == [{"step": 10, "loss": 10 / 7}, {"step": 20, "loss": 20 / 7}, {"step": 30, "loss": 0.5}]
    JsonlWriter(tmp_path).close()  # a new run
    assert lines(tmp_path) == []


def test_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}')
    writer = JsonlWriter(tmp_path, resume_step=5)
    writer.write(3, {})
    writer.close()
    assert lines(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3}]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_step_written_twice_is_one_line(tmp_path: Path, resumed: bool) -> None:
    writer = JsonlWriter(tmp_path)
    writer.write(1, {"loss": 2.0})
    writer.write(2, {"loss": 1.2345678901234567})
    if resumed:
        writer.close()
        writer = JsonlWriter(tmp_path, resume_step=2)
    writer.write(2, {"loss": 1, "probe_top1": 0.5})  # shorter or longer than before: nothing of the old line may remain
    writer.write(2, {"probe_top1": 0.75})
    writer.write(3, {"loss": 0.5})
    writer.close()
    assert lines(tmp_path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "probe_top1": 0.75}, {"step": 3, "loss": 0.5}]


def test_going_back_is_refused(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path)
    writer.write(2, {})
    with pytest.raises(ValueError, match="step 1 after those of step 2"):
        writer.write(1, {})
    with pytest.raises(ValueError, match="'step'"):
        writer.write(3, {"step": 3})
    writer.close()


def test_a_line_that_is_no_metric_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nhello\n{"step": 2}\n')
    with raises_naming("metrics.jsonl line 2 "):
        read_metrics(tmp_path)
    with pytest.raises(UserError, match="line 2"):
        create_writer(tmp_path)


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


def test_killed_while_writing_leaves_whole_steps(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from jigclu_jax.train.writers import JsonlWriter
        writer = JsonlWriter({str(tmp_path)!r})
        for step in range(1, 8):
            writer.write(step, {{"loss": 1 / step}})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)]).returncode == -9
    assert [row["step"] for row in lines(tmp_path)] == list(range(1, 8))


def test_object_store_gets_whole_objects_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot append: every put is the whole file, not more often than the clock says, always on flush."""
    puts: list[bytes] = []
    put = atomic_file.write_bytes
    monkeypatch.setattr(atomic_file, "is_remote", lambda path: True)
    monkeypatch.setattr(atomic_file, "write_bytes", lambda path, data: (puts.append(data), put(path, data))[1])
    now = [0.0]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 9}\n')
    writer = JsonlWriter(tmp_path, resume_step=1, clock=lambda: now[0])
    for step in range(2, 32):
        now[0] += 1
        writer.write(step, {"loss": 1 / step})
        if step == 31:
            writer.write(step, {"more": 1})
    assert len(puts) == 1 + 3
    writer.flush()
    assert len(puts) == 5
    writer.close()
    assert len(puts) == 5  # nothing new
    assert [row["step"] for row in lines(tmp_path)] == list(range(1, 32))
    assert lines(tmp_path)[-1] == {"step": 31, "loss": 1 / 31, "more": 1}


def test_disabled_writer_creates_nothing(tmp_path: Path) -> None:
    writer = create_writer(tmp_path / "run", enabled=False)
    writer.write(1, {"loss": 1.0})
    writer.write_image("montage", 1, np.zeros((2, 2, 3), np.uint8))
    writer.flush()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a" / "report.html"
    atomic_file.write_text(target, "old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_file.write_text(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_failing_tensorboard_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    monkeypatch.setattr("jigclu_jax.train.writers._open_events", lambda folder, step: (_ for _ in ()).throw(PermissionError("no")))
    writer = create_writer(tmp_path)
    for step in range(3):
        writer.write(step, {"loss": 1.0})
    writer.write_image("montage", 1, np.zeros((2, 2, 3), np.uint8))
    writer.close()
    assert len(said) == 1 and "PermissionError" in said[0] and "tensorboard" in said[0]
    assert len(lines(tmp_path)) == 3


# A process that writes a run, is interrupted after step 30 and goes on from step 20: run with TensorFlow and without
TENSORBOARD_RUN = """
    import sys
    if {block}:
        sys.modules.update(tensorflow=None, clu=None)  # as if not installed
    import numpy as np
    from jigclu_jax.train.writers import create_writer
    image = np.zeros((6, 9, 3), np.uint8); image[:, :, 0] = 200
    writer = create_writer({folder!r})
    for step in (10, 20, 30):
        writer.write(step, {{"loss": step / 4, "epoch": step / 100}})
    writer.write_image("montage", 10, image)
    writer.flush()
    writer = create_writer({folder!r}, resume_step=20)
    writer.write(25, {{"loss": 100.0}})
    writer.close()
    print(sys.modules.get("clu") is not None)
"""
BACK = """
    import json, sys
    sys.modules.update(tensorflow=None)  # reading needs none, and importing it takes ten seconds
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator  # the one TensorBoard uses
    from tensorboard.util import tensor_util
    events = EventAccumulator({folder!r}, size_guidance={{"tensors": 0}})
    events.Reload()
    rows, images = {{}}, {{}}
    for tag in events.Tags()["tensors"]:
        for e in events.Tensors(tag):
            value = tensor_util.make_ndarray(e.tensor_proto)
            if value.ndim == 0:
                rows.setdefault(tag, []).append([e.step, float(value)])
            else:
                images.setdefault(tag, []).append([e.step, int(value[1]), int(value[0])])
    print(json.dumps([rows, images]))
"""


def python(code: str, **values: object) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code).format(**values)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("with_tensorflow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tensorboard_reads_back_what_was_written(tmp_path: Path, with_tensorflow: bool) -> None:
    if with_tensorflow:
        pytest.importorskip("tensorflow")
    assert python(TENSORBOARD_RUN, folder=str(tmp_path), block=not with_tensorflow) == str(with_tensorflow)
    scalars, images = json.loads(python(BACK, folder=str(tmp_path / "tensorboard")))
    # the step that the interrupted run wrote after its checkpoint is gone, as in metrics.jsonl
    assert scalars["loss"] == [[10, 2.5], [20, 5.0], [25, 100.0]]
    assert scalars["epoch"] == [[10, pytest.approx(0.1)], [20, pytest.approx(0.2)]]
    assert images == {"montage": [[10, 6, 9]]}
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20, 25]


def test_nothing_heavy_is_imported_before_the_first_write(tmp_path: Path) -> None:
    code = """
        import sys
        from jigclu_jax.train import progress, writers
        writers.create_writer({folder!r})
        print(sorted({{"tensorflow", "clu", "tensorboard", "jax"}} & set(sys.modules)))
    """
    assert python(code, folder=str(tmp_path)) == "[]"


def test_tensorboard_writer_alone_survives_a_close_without_writes(tmp_path: Path) -> None:
    TensorBoardWriter(tmp_path / "tensorboard").close()
    assert not (tmp_path / "tensorboard").exists()
