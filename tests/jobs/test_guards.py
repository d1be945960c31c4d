"""What tells a person what a run did: NaNs named by the operation, and a profile that its viewers open."""

import gzip
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from jobs import tiny
from named_errors import raises_naming

from jigclu_jax.errors import NonFiniteError
from jigclu_jax.jobs import pretrain
from jigclu_jax.train.trace import Trace, profile_window


@pytest.mark.slow
def test_nans_are_named_by_their_operation(tmp_path: Path) -> None:
    config = tiny.pretrain_config()
    config.optimizer.update({"learning_rate": 1e9, "schedule": "constant"})
    config.debug.nans = True
    with pytest.raises(NonFiniteError, match=r"^step [23]: .*(nan|inf).* encountered in .*; the batch of step [23]: .* all in"):
        pretrain.run(config, tmp_path / "run")
    assert not jax.config.jax_debug_nans
    assert json.loads((tmp_path / "run" / "nonfinite.json").read_text())["step"] in (2, 3)


@pytest.mark.parametrize("window", ["3-4", pytest.param("40", marks=pytest.mark.slow)])
def test_a_profile_opens_in_tensorboard_and_perfetto(tmp_path: Path, window: str) -> None:
    """Of a part of the run, and of more steps than it has."""
    config = tiny.pretrain_config(epochs=1)
    config.profile = window
    pretrain.run(config, tmp_path / "run")
    [trace] = (tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert any("PjitFunction" in event.get("name", "") for event in events)
    assert [path.parent for path in (tmp_path / "run" / "profile").rglob("*.xplane.pb")] == [trace.parent]


@pytest.mark.parametrize(
    ("text", "done", "window"), [("", 0, None), ("10-20", 0, (10, 20)), ("3-3", 9, (3, 3)), ("5", 0, (2, 6)), ("5", 100, (102, 106))]
)
def test_spans_of_steps(text: str, done: int, window: tuple[int, int] | None) -> None:
    assert profile_window(text, done) == window


@pytest.mark.parametrize("text", ["steps", "0", "5-4", "-3", "1-", "1-2-3", "1.5"])
def test_a_span_that_is_none_is_refused(text: str) -> None:
    config = tiny.pretrain_config()
    config.profile = text
    with raises_naming(f"config.profile='{text}'"):
        pretrain.run(config, "/nonexistent/run")


@pytest.mark.parametrize(("window", "count", "traced"), [((3, 4), 1, [2, 3]), ((3, 4), 4, [0]), ((2, 9), 2, [0, 2, 4])])
def test_whole_calls_are_traced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, window: tuple[int, int], count: int, traced: list[int]
) -> None:
    """Steps done before each call that ran under the profiler, of 6; a trace that is on at the end is closed."""
    on: list[bool] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: on.append(True))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: on.append(False))
    trace, seen = Trace(tmp_path, window), []
    for done in range(0, 6, count):
        trace.before(done, count)
        if on and on[-1]:
            seen.append(done)
        trace.after(done + count, np.zeros(()))
    trace.close()
    assert seen == traced and on == [True, False]
