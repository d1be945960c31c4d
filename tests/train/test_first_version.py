"""What version 0.1.0 left goes on: configs of every job, and a run that was stopped half-way (golden/workdir_0.1.0.tar.xz).

Written by commit 55693f8: `configs/` holds what its config files gave, `run` a pretraining on 32 embedded pictures, stopped at step 4 of 8.
"""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from jobs import tiny

from jigclu_jax.__main__ import main
from jigclu_jax.config import check_config, config_from_dict, parse, pretrain_config, read_config
from jigclu_jax.encoder import load_encoder
from jigclu_jax.jobs import probe
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.digests import named_leaves
from jigclu_jax.train.stored import read_state
from jigclu_jax.train.workdir import read_result
from jigclu_jax.train.writers import read_metrics

ARCHIVE = Path(__file__).resolve().parent.parent / "golden" / "workdir_0.1.0.tar.xz"
with tarfile.open(ARCHIVE) as opened:
    CONFIGS = [name for name in opened.getnames() if name.startswith("configs/")]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture
def run(unpacked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unpacked / "run", tmp_path / "run"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_of_it_is_one_of_this_version(unpacked: Path, name: str) -> None:
    tree = json.loads((unpacked / name).read_text())
    check_config(config_from_dict(tree), name)
    assert config_from_dict(tree).job == tree["job"]


def test_its_fields_are_found_at_their_new_places(run: Path) -> None:
    config = read_config(run)
    assert (config.method.name, config.method.grid, config.method.input) == ("jigclu", 2, "montage")
    assert (config.method.temperature, config.method.embedding_dim, config.method.shuffle_group) == (0.2, 8, 4)
    assert (config.saving.best_metric, config.saving.every_epochs) == ("accuracy_retrieval", 1.0)
    assert config.optimizer.multipliers == (("backbone/layer1/*", 0.5),)
    assert config.optimizer.no_decay == ("backbone/bn1/*", "location/*")
    assert config.keys() == pretrain_config().keys()


def test_it_goes_on_to_its_end(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    begun = [row for row in read_metrics(run) if row["step"] <= 4]
    assert main([f"--workdir={run}"]) == 0, capfd.readouterr().err
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert rows[: len(begun)] == begun
    assert read_result(run)["job"] == "pretrain"
    step, meta, state = read_checkpoint(run)
    assert step == 8 and meta["config"]["method"]["name"] == "jigclu"
    assert set(state["params"]) == {"backbone", "projection", "location"} and set(state["ema"]["params"]) == set(state["params"])
    assert parse([f"--workdir={run}"])[0] == read_config(run)


def test_its_state_is_the_stored_one_with_one_name_changed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, state = read_checkpoint(run)
    monkeypatch.setattr("jigclu_jax.train.stored.renamed", lambda tree, *_: tree)
    stored = named_leaves(read_state(epath.Path(run / "checkpoints" / "4")))
    assert sum("trunk" in name.split("/") for name in stored) > 100
    found = named_leaves(state)
    assert found.keys() == {name.replace("trunk", "backbone") for name in stored}
    for name, leaf in stored.items():
        np.testing.assert_array_equal(found[name.replace("trunk", "backbone")], leaf)


def test_its_encoder_and_a_probe_of_it(run: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    plain, averaged = (load_encoder(str(run), ema=ema)(images) for ema in (False, True))
    assert plain.shape == averaged.shape == (4, 5) and np.isfinite(plain).all()
    assert (plain != averaged).any()
    probe.run(tiny.probe_config(str(run), epochs=1), tmp_path / "probe")
    assert 0 <= read_result(tmp_path / "probe")["probe_top1_last"] <= 1
