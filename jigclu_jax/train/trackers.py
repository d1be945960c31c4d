"""Sends a run's metrics to Weights & Biases, MLflow or trackio, beside `metrics.jsonl`.

None of the packages is a dependency. Where they send to and who sends is said by their own variables (WANDB_MODE, MLFLOW_TRACKING_URI,
TRACKIO_SPACE_ID, ...). A run has the same name there whenever it goes on: it stands in a file of the workdir.
"""

import importlib
import importlib.util
import logging
import math
import os
import queue
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol, SupportsFloat, runtime_checkable

import numpy as np
from etils import epath
from jaxtyping import UInt8
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import write_text
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.run_scope import at_end_of_run
from jigclu_jax.train.workdir import TRACKED_FILE, config_as_dict, flatten

_WRITERS: dict[str, "TrackerWriter"] = {}  # by workdir, from the beginning of a run to its report
_PATIENCE = 20.0  # seconds at the end of a run; what a tracker has not taken by then is given up
_MOST_PARAMS = 100  # that MLflow takes at once
_LONGEST_PARAM = 500  # characters that every version of MLflow takes


@runtime_checkable
class OpenRun(Protocol):
    """What is asked of a run of a tracker; those of wandb and trackio are such."""

    def log(self, metrics: dict[str, float], step: int) -> object:
        """Records the scalars of one step."""

    def log_artifact(self, path: str, name: str, type: str) -> object:
        """Keeps a copy of a file."""

    def finish(self) -> object:
        """Returns when everything is sent."""


def check_tracker(name: str) -> None:
    """UserError where `config.log.tracker` names a package that is not installed."""
    if name and importlib.util.find_spec(name) is None:
        raise UserError(f"config.log.tracker={name!r} needs a package that is not here: pip install {name}")


class TrackerWriter:
    """A `MetricWriter` into a tracker, from a thread of its own: training never waits for it.

    Whatever goes wrong there (no login, no network, a full disk) is logged as one warning, and the writer goes quiet.

    Args:
      name: of the tracker, for the warning.
      open_run: called in the thread; opens the run, or goes on with it.
      patience: seconds that `finish` waits.
    """

    def __init__(self, name: str, open_run: Callable[[], OpenRun], *, patience: float | None = None):
        self._name, self._patience = name, _PATIENCE if patience is None else patience
        self._tasks: queue.SimpleQueue[Callable[[OpenRun], object] | None] = queue.SimpleQueue()
        self._failed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(open_run,), daemon=True, name=f"tracker {name}")
        self._thread.start()

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        row = {name: float(value) for name, value in metrics.items()}
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        self._put(lambda run: run.log(finite, step=int(step)))

    def write_image(self, tag: str, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """The pictures of a run are in its report: nothing happens."""

    def write_file(self, path: str, name: str) -> None:
        """Keeps a copy of a file, which must stay until `finish` has returned."""
        self._put(lambda run: run.log_artifact(path, name=name, type="report"))

    def flush(self) -> None:
        """No tracker holds what a run needs to go on: nothing is waited for."""

    def close(self) -> None:
        """The report of the run is still to come: nothing happens before `finish`."""

    def finish(self) -> None:
        """Waits until everything is sent, as long as its patience lasts."""
        self._put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._give_up(f"it has not taken everything within {self._patience:g} seconds")

    def _put(self, task: Callable[[OpenRun], object] | None) -> None:
        if not self._failed.is_set():
            self._tasks.put(task)

    def _work(self, open_run: Callable[[], OpenRun]) -> None:
        try:
            run = open_run()
            while (task := self._tasks.get()) is not None and not self._failed.is_set():
                task(run)
            run.finish()
        except Exception as error:  # whatever the package raises: see the class
            self._give_up(f"{type(error).__name__}: {one_line(error)}")

    def _give_up(self, why: str) -> None:
        if not self._failed.is_set():
            self._failed.set()
            logging.warning("%s is off for the rest of this run, metrics.jsonl has everything: %s", self._name, why)


def open_tracker(config: ConfigDict, workdir: epath.PathLike) -> TrackerWriter:
    """The writer into the tracker that `config.log.tracker` names, under the name that the workdir's run has there.

    It is finished by `send_report`, or else when the job ends.
    """
    log, fields, name = config.log, config_as_dict(config), run_name(workdir)
    writer = _WRITERS[os.fspath(workdir)] = TrackerWriter(log.tracker, lambda: _OPEN[log.tracker](log.project, name, fields))
    at_end_of_run(lambda: _finish(workdir))
    return writer


def send_report(workdir: epath.PathLike) -> None:
    """Adds `report.html` to the workdir's run at its tracker, and finishes that; nothing happens where none is open."""
    writer = _WRITERS.get(os.fspath(workdir))
    if writer is not None:
        root = epath.Path(workdir)
        with tempfile.TemporaryDirectory() as folder:  # the workdir may be remote
            page = epath.Path(folder) / "report.html"
            page.write_bytes((root / page.name).read_bytes())
            writer.write_file(os.fspath(page), f"report-{run_name(root)}")
            _finish(workdir)


def _finish(workdir: epath.PathLike) -> None:
    if writer := _WRITERS.pop(os.fspath(workdir), None):
        writer.finish()


def run_name(workdir: epath.PathLike) -> str:
    """The name of the workdir's run at a tracker: the folder's, and some letters by chance; the same from the first call on."""
    file = epath.Path(workdir) / TRACKED_FILE
    if not file.exists():
        folder = re.sub(r"[^\w.-]+", "-", epath.Path(workdir).name, flags=re.ASCII)[:40]
        write_text(file, f"{folder}-{uuid.uuid4().hex[:8]}\n")
    return file.read_text().strip()


def _open_wandb(project: str, name: str, config: Mapping[str, Any]) -> OpenRun:
    wandb: Any = importlib.import_module("wandb")
    settings = wandb.Settings(console="off", init_timeout=_PATIENCE)  # else it takes over the outputs of the process
    return wandb.init(project=project, id=name, name=name, config=config, resume="allow", reinit="create_new", settings=settings)


def _open_trackio(project: str, name: str, config: Mapping[str, Any]) -> OpenRun:
    trackio: Any = importlib.import_module("trackio")
    return trackio.init(project=project, name=name, config=config, resume="allow", embed=False)


class _MlflowRun:
    """A run of MLflow by its client, which keeps no state in a thread; the project is an experiment."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        self._client = mlflow.MlflowClient()
        experiment = self._client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(project)
        found = self._client.search_runs([number], f"attributes.run_name = '{name}'", max_results=1)
        self._id = (found[0] if found else self._client.create_run(number, run_name=name)).info.run_id
        if found:
            self._client.update_run(self._id, status="RUNNING")
            return
        params = [self._entities.Param(key, str(value)[:_LONGEST_PARAM]) for key, value in flatten(config).items()]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MOST_PARAMS])

    def log(self, metrics: dict[str, float], step: int) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[self._entities.Metric(name, value, now, step) for name, value in metrics.items()])

    def log_artifact(self, path: str, name: str, type: str) -> None:
        self._client.log_artifact(self._id, path)

    def finish(self) -> None:
        self._client.set_terminated(self._id)


_OPEN: Mapping[str, Callable[[str, str, Mapping[str, Any]], OpenRun]] = {
    "wandb": _open_wandb,
    "mlflow": _MlflowRun,
    "trackio": _open_trackio,
}
