"""A workdir that another process works on is refused before images are opened, by every job, and nothing in it changes."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from jobs import tiny
from refusals import ROOT, keep_signal_handler, tree
from tiny_checkpoint import make_workdir

from jigclu_jax.__main__ import main
from jigclu_jax.errors import UserError
from jigclu_jax.train.claim import claimed_folder

__all__ = ["keep_signal_handler"]  # a fixture
NOWHERE = ("--config.data.source=folder", "--config.data.path=/nonexistent/images")
JOBS = {
    "pretrain_folder": (),
    "probe_folder": ("--config.checkpoint=RUN",),
    "finetune": ("--config.checkpoint=RUN",),
    "evaluate": ("--config.checkpoint=RUN",),
    "fast_probe": ("--config.checkpoint=RUN",),
    "knn": ("--config.checkpoint=RUN",),
    "prepare": ("--config.output=OUTPUT",),
}
# the held folder, by another process
HOLD = """
import sys, time
from jigclu_jax.errors import UserError
from jigclu_jax.train.claim import claimed_folder
with claimed_folder(sys.argv[1], *sys.argv[2:]):
    print(flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("claims") / "run")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_workdir_that_is_held_is_refused_by_every_job(
    held: subprocess.Popen[str], run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(tmp_path)
    for name, fields in (*JOBS.items(), ("compare", ()), ("demo", ()), ("export", ("--config.checkpoint=RUN",))):
        given = [field.replace("RUN", str(run)).replace("OUTPUT", str(tmp_path / "shards")) for field in fields]
        given += [*NOWHERE] if name in JOBS else []
        code = main([f"--config={ROOT}/configs/{name}.py", f"--workdir={tmp_path}/out", *given])
        out, err = capfd.readouterr()
        assert code == 2 and f"process {held.pid} since" in err and f"{tmp_path}/out" in err, (name, err)
        assert (out, err.count("\n"), tree(tmp_path)) == ("", 1, before), name


@pytest.mark.parametrize("name", JOBS)
def test_a_refused_job_leaves_no_claim_and_what_was_there(name: str, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = [field.replace("RUN", str(run)).replace("OUTPUT", str(tmp_path / "shards")) for field in JOBS[name]]
    (tmp_path / "own" / "pictures").mkdir(parents=True)
    (tmp_path / "own" / "pictures" / "holiday.jpg").write_bytes(b"mine")
    before = tree(tmp_path)
    for workdir in ("new/run", "own"):
        assert main([f"--config={ROOT}/configs/{name}.py", f"--workdir={tmp_path}/{workdir}", *given, *NOWHERE]) == 2
        assert "/nonexistent/images" in capfd.readouterr().err
        assert tree(tmp_path) == before


def test_a_split_is_prepared_by_one_process_at_a_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "images.npz", image=np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), np.uint8))
    fields = ["--config.data.source=arrays", f"--config.data.path={tmp_path}/images.npz", f"--config.output={tmp_path}/shards"]

    def prepare(workdir: str, *more: str) -> tuple[int, str]:
        with ThreadPoolExecutor(1) as other:
            code = other.submit(main, [f"--config={ROOT}/configs/prepare.py", f"--workdir={tmp_path}/{workdir}", *fields, *more]).result()
        return code, capfd.readouterr().err

    with claimed_folder(tmp_path / "shards", ".train.claim"):
        code, said = prepare("one")
        assert code == 2 and "--config.output" in said and " since " in said
        assert prepare("two", "--config.output_split=other")[0] == 0
    assert prepare("one")[0] == 0
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith("claim")]


def test_a_claim_that_is_lost_keeps_an_evaluation_from_writing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As of a process that was paused for longer than a lease on a bucket lasts."""
    from jigclu_jax.jobs import evaluations, knn

    def lost(*_: object) -> tuple[dict[str, object], None]:
        claims.lost_to = "elsewhere process 3 since 2026-01-31"
        return {}, None

    with claimed_folder(tmp_path / "out") as claims:
        monkeypatch.setattr(knn, "knn_fields", lost)
        monkeypatch.setattr(evaluations.Features, "of_sets", lambda *_: None)
        monkeypatch.setattr(evaluations, "common_fields", lambda *_: {})
        config = tiny.features_config("knn", str(run))
        with pytest.raises(UserError, match="elsewhere process 3"):
            knn.run(config, tmp_path / "out")
    assert not (tmp_path / "out" / "result.json").exists()
