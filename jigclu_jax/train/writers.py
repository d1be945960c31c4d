"""Writers of a run's metrics: `metrics.jsonl`, which other tools read, and TensorBoard."""

import contextlib
import errno
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import numpy as np
from absl import logging
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from jigclu_jax import atomic_file
from jigclu_jax.json_file import NOTHING, NUMBER, DamagedFile, check_kinds, parse_json, reason

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
_REMOTE_SECONDS = 10.0  # an object store takes the whole file anew: not more often than this, save on flush()


@runtime_checkable
class MetricWriter(Protocol):
    """What the loop knows of a writer: scalars and pictures by step."""

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Records the scalars of one step."""

    def write_image(self, tag: str, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Records one RGB picture."""

    def flush(self) -> None:
        """Returns when everything written so far is where a reader finds it; call before a checkpoint is saved."""

    def close(self) -> None:
        """Flushes and releases; nothing may be written afterwards."""


class NullWriter:
    """Writes nothing: for every process but the first."""

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        pass

    def write_image(self, tag: str, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class JsonlWriter:
    """`DIR/metrics.jsonl`: one JSON object a logged step, `{"step": 50, "epoch": 0.2, "loss": 7.1, ...}`.

    Opening with `resume_step=s` keeps the lines up to step s (0: a new run) and drops the rest together with a last
    line that was cut short, so that a run which goes on from the checkpoint of step s leaves each step once. A value
    that is not finite becomes `null`, for JSON has no NaN. Writing a step twice in a row adds to its line; going back
    is a ValueError. On a local disk every line is appended and flushed in one write; an object store cannot append,
    there the lines stay in memory and the whole object is put anew: at most every 10 seconds, on `flush` and on `close`.
    """

    def __init__(self, workdir: epath.PathLike, *, resume_step: int = 0, clock: Callable[[], float] = time.monotonic):
        self._path = epath.Path(workdir) / METRICS_FILE
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        rows = [row for row in read_metrics(workdir) if row["step"] <= resume_step]
        self._last: dict[str, float | int | None] = rows[-1] if rows else {}
        self._lines = [_line(row) for row in rows]
        atomic_file.write_bytes(self._path, b"".join(self._lines))
        self._put_at = clock()
        self._pending = False
        local = not atomic_file.is_remote(self._path)
        self._file = open(os.fspath(self._path), "r+b", buffering=0) if local else None  # noqa: SIM115 (close() closes it)
        self._start = len(b"".join(self._lines[:-1]))  # where the last line begins
        if self._file:
            self._lines = self._lines[-1:]  # the rest is on disk, memory need not grow with the run

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Adds the line of one step; ValueError for a step before the last one or a metric named "step"."""
        if "step" in metrics:
            raise ValueError("a metric must not be called 'step'")
        last = self._last.get("step")
        if last is not None and step < last:
            raise ValueError(f"metrics of step {step} after those of step {last}")
        same = step == last
        row: dict[str, float | int | None] = dict(self._last) if same else {"step": int(step)}
        if "epoch" in metrics:
            row["epoch"] = _finite(metrics["epoch"])  # first, for whoever reads the file by eye
        row.update({name: _finite(value) for name, value in metrics.items()})
        line = _line(row)
        if self._file:
            if not same:
                self._start += len(self._lines[-1]) if self._lines else 0
            if same:  # no shorter than the line it replaces: nothing is left to cut off, and a kill finds the old or the new one
                line = line[:-1].ljust(len(self._lines[-1]) - 1) + b"\n"
            self._file.seek(self._start)
            if self._file.write(line) < len(line):  # unbuffered: one system call, so that a killed run leaves whole lines
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self._path))
            self._lines = [line]
        else:
            self._lines[len(self._lines) - same :] = [line]
            self._pending = True
            if self._clock() - self._put_at >= _REMOTE_SECONDS:
                self.flush()
        self._last = row

    def write_image(self, tag: str, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Pictures have no place in this file: nothing happens."""

    def flush(self) -> None:
        if self._file:
            os.fsync(self._file.fileno())
        elif self._pending:
            atomic_file.write_bytes(self._path, b"".join(self._lines))
            self._put_at, self._pending = self._clock(), False

    def close(self) -> None:
        self.flush()
        if self._file:
            self._file.close()


class TensorBoardWriter:
    """Event files for TensorBoard: through clu where TensorFlow is installed, else by TensorBoard's own file writer.

    A view that fails must not end a training run: the first error is logged as one warning and the writer goes quiet.
    Both libraries are imported with the first write (TensorFlow alone takes about ten seconds).
    """

    def __init__(self, folder: epath.PathLike, *, resume_step: int = 0):
        self._folder = os.fspath(epath.Path(folder))
        self._resume_step = resume_step
        self._backend: _CluEvents | _PlainEvents | None = None
        self._failed = False

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        self._try(lambda backend: backend.scalars(step, {name: float(value) for name, value in metrics.items()}))

    def write_image(self, tag: str, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._try(lambda backend: backend.image(tag, step, image))

    def flush(self) -> None:
        if self._backend:
            self._try(lambda backend: backend.flush())

    def close(self) -> None:
        if self._backend:
            self._try(lambda backend: backend.close())
            self._backend = None

    def _try(self, action: Callable[["_CluEvents | _PlainEvents"], None]) -> None:
        if self._failed:
            return
        try:
            if self._backend is None:
                self._backend = _open_events(self._folder, self._resume_step)
            action(self._backend)
        except Exception as error:  # whatever the library raises: see the class
            self._failed = True
            logging.warning("TensorBoard is off for the rest of this run: %s in %s: %s", type(error).__name__, self._folder, error)


def _open_events(folder: str, resume_step: int) -> "_CluEvents | _PlainEvents":
    try:
        import tensorflow as tf  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return _PlainEvents(folder, resume_step)
    with contextlib.suppress(RuntimeError):  # raised when it is too late: whoever imported TensorFlow first has decided
        tf.config.set_visible_devices([], "GPU")  # else TensorFlow takes the memory that JAX trains in
    # The START mark of TensorBoard's protocol makes readers drop what an interrupted run wrote after the checkpoint;
    # clu has no call for it, so it goes into an event file of its own, which sorts before clu's
    _PlainEvents(folder, resume_step).close()
    return _CluEvents(folder)


class _CluEvents:
    def __init__(self, folder: str):
        from clu import metric_writers

        self._writer = metric_writers.SummaryWriter(folder)

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        self._writer.write_scalars(step, metrics)

    def image(self, tag: str, step: int, image: np.ndarray) -> None:
        self._writer.write_images(step, {tag: image[None]})

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _PlainEvents:
    def __init__(self, folder: str, resume_step: int):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # tensorboard has no type information; its protocol buffers are made at run time anyway
        self._event: Any = event_pb2.Event
        self._summary: Any = summary_pb2.Summary
        self._writer: Any = EventFileWriter(folder)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(self._event(wall_time=time.time(), step=resume_step + 1, session_log=start))

    def _add(self, step: int, values: list[Any]) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        self._add(step, [self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()])

    def image(self, tag: str, step: int, image: np.ndarray) -> None:
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        height, width = image.shape[:2]
        picture = self._summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png.getvalue())
        self._add(step, [self._summary.Value(tag=tag, image=picture)])

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MultiWriter:
    """Hands everything to several writers in turn."""

    def __init__(self, writers: Sequence[MetricWriter]):
        self._writers = tuple(writers)

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        for writer in self._writers:
            writer.write(step, metrics)

    def write_image(self, tag: str, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        for writer in self._writers:
            writer.write_image(tag, step, image)

    def flush(self) -> None:
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


def create_writer(
    workdir: epath.PathLike,
    *,
    tensorboard: bool = True,
    resume_step: int = 0,
    enabled: bool = True,
    tracker: Callable[[], MetricWriter] | None = None,
) -> MetricWriter:
    """Opens a run's writers; `enabled=False` (every process but the first) writes and creates nothing.

    `resume_step` is the step of the checkpoint that the run goes on from, 0 for a new run; `tracker` opens one more writer. UserError
    where a `metrics.jsonl` is there that this library did not write.
    """
    if not enabled:
        return NullWriter()
    writers: list[MetricWriter] = [JsonlWriter(workdir, resume_step=resume_step)]
    if tensorboard:
        writers.append(TensorBoardWriter(epath.Path(workdir) / TENSORBOARD_FOLDER, resume_step=resume_step))
    if tracker is not None:
        writers.append(tracker())
    return MultiWriter(writers)


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """The rows of `DIR/metrics.jsonl` in order, [] where there is none; `step` is an int, other values float or None.

    A last line that was cut short (the run was killed while writing) is left out; UserError for any other line that
    is not a JSON object with a step.
    """
    path = epath.Path(workdir) / METRICS_FILE
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DamagedFile(f"{path}: {reason(error)}: remove it, or use another workdir") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line, {"step": (int,)})
            check_kinds(row, dict.fromkeys(row, (*NUMBER, NOTHING)))
            rows.append(row)
        except ValueError as error:
            if number == len(lines):
                break  # empty after the last line's end, or torn
            raise DamagedFile(f"{path} line {number} is not a JSON object of numbers with a step: remove that line or the file") from error
    return rows


def _finite(value: SupportsFloat) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _line(row: Mapping[str, float | int | None]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"
