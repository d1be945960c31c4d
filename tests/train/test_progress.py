"""The progress line: its text, the rate without compile time and pauses, terminals against files."""

import io
import math
import os
import sys

import pytest

from jigclu_jax.metrics import accuracy_spec
from jigclu_jax.train.progress import Progress, duration

LOSSES = {"loss": 7.12345, "loss_cluster": 5.9, "loss_location": 1.22345, "learning_rate": 0.03}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_line_names_step_epoch_losses_rate_and_time_left() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(25000, 250, 256, stream, clock=clock)
    clock.now += 90  # compilation
    progress.update(1, LOSSES)
    clock.now += 60.0
    assert progress.update(121, LOSSES) == pytest.approx(2 * 256)
    first, second = stream.getvalue().splitlines()
    assert first == "step 1/25000  epoch 0.0/100  loss 7.123 (cluster 5.900, location 1.223)"
    # 24879 steps at 2 a second
    assert second == "step 121/25000  epoch 0.5/100  loss 7.123 (cluster 5.900, location 1.223)  512 images/s  3:27:20 left"


def test_compile_time_is_in_no_rate() -> None:
    clock = Clock()
    progress = Progress(100, 10, 8, None, clock=clock)
    assert math.isnan(progress.average)
    clock.now += 500
    assert math.isnan(progress.update(1, {}))
    clock.now += 2
    assert progress.update(5, {}) == pytest.approx(16)
    assert progress.average == pytest.approx(16)


def test_rate_follows_a_change_and_average_keeps_all() -> None:
    clock = Clock()
    progress = Progress(10_000, 100, 10, None, clock=clock)
    progress.update(100, {})  # a resumed run starts at its checkpoint's step
    for step in range(200, 1100, 100):
        clock.now += 10  # 10 steps a second
        rate = progress.update(step, {})
    assert rate == pytest.approx(100)
    clock.now += 600
    slow = progress.update(1600, {})  # 600 steps... 1 a second: ten times the minute that the rate remembers
    assert 8 < slow < 11
    assert progress.average == pytest.approx(10 * 1500 / 690, rel=0.05)


def test_average_of_a_run_in_parts_is_over_all_of_them() -> None:
    clock = Clock()
    first = Progress(100, 10, 8, None, clock=clock)
    first.update(1, {})
    clock.now += 10
    first.update(21, {})
    assert first.timed == (20, 10.0)
    rest = Progress(100, 10, 8, None, clock=clock, timed=first.timed)
    assert rest.average == first.average == pytest.approx(16)  # also where no step is left
    clock.now += 99
    rest.update(22, {})
    with rest.paused():
        clock.now += 7
    clock.now += 30
    assert rest.update(32, {}) == pytest.approx(8 / 3)  # a machine that is slower now
    assert rest.timed == (30, 40.0) and rest.average == pytest.approx(6)


def test_pauses_are_no_training_but_count_in_the_time_left() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(31, 10, 4, stream, clock=clock)
    progress.update(1, {})
    clock.now += 5
    with progress.paused():
        clock.now += 20
    clock.now += 5
    assert progress.update(11, {}) == pytest.approx(4)
    assert stream.getvalue().splitlines()[-1].endswith("4 images/s  1:00 left")  # 20 steps: 20 s and 40 s of pauses


def test_same_step_again_keeps_the_rate() -> None:
    clock = Clock()
    progress = Progress(10, 10, 1, io.StringIO(), clock=clock)
    progress.update(0, {})
    clock.now += 4
    assert progress.update(4, {}) == pytest.approx(1)
    assert progress.update(4, {}) == pytest.approx(1)


def test_terminal_overwrites_itself_and_keeps_one_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size((60, 24)))
    clock, stream = Clock(), Terminal()
    progress = Progress(20, 10, 4, stream, clock=clock)
    metrics = {**LOSSES, "accuracy_retrieval": 0.5}
    for step in (1, 5, 10, 15):
        clock.now += 1
        progress.update(step, metrics)
    progress.say("saved")
    clock.now += 1
    progress.update(17, metrics)
    progress.close()
    text = stream.getvalue()
    assert text.count("\n") == 3  # the epoch's end, the message, the end
    kept = [line.split("\x1b[K")[-1] for line in text.split("\n")]
    assert kept[0].startswith("step 10/20  epoch 1.0/2  loss 7.123")
    assert kept[1] == "saved"
    for written in text.replace("\n", "").split("\r\x1b[K"):
        assert "50.0 %" not in written  # left out, as the line would wrap
        assert len(written) < 60 or written.startswith("step 10/")  # only a kept line may wrap


def test_accuracy_is_shown_in_percent_and_at_the_end_nothing_is_left() -> None:
    clock, stream = Clock(), io.StringIO()
    specs = (accuracy_spec("probe_top1", "top-1, evaluation images", 0.1, "top-1"), accuracy_spec("probe_top5", "top-5", 0.5))
    progress = Progress(3, 3, 1, stream, clock=clock, specs=specs)
    progress.update(1, {})
    clock.now += 70
    progress.update(3, {"loss": 1.0, "probe_top1": 0.6234, "probe_top5": 0.9})
    assert stream.getvalue().splitlines()[-1] == "step 3/3  epoch 1.0/1  loss 1.000  top-1 62.3 %  0.029 images/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (754, "12:34"), (3600, "1:00:00"), (18432, "5:07:12"), (273600, "3 d 4 h"), (-3, "0:00")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_no_stream_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(3, 3, 1, None)
    progress.update(1, {})
    progress.say("text")
    progress.close()
    assert capsys.readouterr() == ("", "")
    Progress(3, 3, 1, sys.stderr).update(1, {})
    assert capsys.readouterr() == ("", "step 1/3  epoch 0.3/1\n")
