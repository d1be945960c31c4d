"""A workdir in an object store, by a stand-in for etils' `gs://`: metrics and report are written and read through it."""

import os
import typing
from pathlib import Path

import pytest
from etils.epath import backend, gpath

from jigclu_jax.report.pages import write_page
from jigclu_jax.train.writers import JsonlWriter, create_writer, read_metrics

Remote = str | os.PathLike[str]


class ObjectStore(backend._OsPathBackend):
    """Keeps `gs://bucket/...` below a folder; like a store it opens objects whole: for reading, or for writing anew."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _local(self, path: Remote) -> str:
        text = os.fspath(path)
        assert text.startswith("gs://bucket"), f"a path lost its bucket: {text}"
        return str(self.root) + text.removeprefix("gs://bucket")

    def open(self, path: Remote, mode: str) -> typing.IO[str | bytes]:
        assert mode in ("r", "rb", "w", "wb"), mode
        return super().open(self._local(path), mode)

    def exists(self, path: Remote) -> bool:
        return super().exists(self._local(path))

    def makedirs(self, path: Remote, *, exist_ok: bool, mode: int | None = None) -> None:
        super().makedirs(self._local(path), exist_ok=exist_ok, mode=mode)

    def remove(self, path: Remote) -> None:
        super().remove(self._local(path))

    def replace(self, path: Remote, dst: Remote) -> None:
        super().replace(self._local(path), self._local(dst))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", ObjectStore(tmp_path))
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    return tmp_path


def test_metrics_resume_in_an_object_store(store: Path) -> None:
    writer = create_writer("gs://bucket/run", tensorboard=False)
    for step in (1, 2, 3):
        writer.write(step, {"loss": 1 / step})
    writer.flush()
    assert (store / "run" / "metrics.jsonl").read_text().count("\n") == 3
    resumed = JsonlWriter("gs://bucket/run", resume_step=2)
    resumed.write(3, {"loss": 0.5})
    resumed.close()
    assert read_metrics("gs://bucket/run") == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 0.5}]


def test_report_in_an_object_store(store: Path) -> None:
    assert str(write_page("gs://bucket/run")) == "gs://bucket/run/report.html"
    assert [path.name for path in (store / "run").iterdir()] == ["report.html"]
    assert "<title>Pretraining</title>" in (store / "run" / "report.html").read_text()
