"""The line of long work: what is counted is said at the first call and at the end, and stopping is looked at in between."""

import pytest

from jigclu_jax.errors import Preempted
from jigclu_jax.train.counting import counter, stopping
from jigclu_jax.train.stop import STOP


def test_work_is_told_when_it_begins_and_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    say = counter("features of train, random weights")
    for done in (0, 500, 2934, 2934):
        say(done, 2934)
    said = capsys.readouterr()
    assert said.out == "features of train, random weights: 2,934 images\n"
    assert said.err.count("\n") == 1 and "2934/2934 images" in said.err and "took" in said.err


def test_units_are_those_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    say = counter("24 heads on 10 images", "epochs")
    say(1, 1)
    assert "1/1 epochs" in capsys.readouterr().err


def test_a_stop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(STOP), "requested", property(lambda self: True))
    with pytest.raises(Preempted, match="3 of 5"):
        stopping(lambda done, count: None, "it stays")(3, 5)
