"""A checkpoint in which anything has changed: no other numbers than those written are ever handed out."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from named_errors import assert_names, raises_naming
from tiny_checkpoint import make_workdir, tiny_config
from train.test_checkpoint import META, newest, save, state

from jigclu_jax.encoder import load_encoder
from jigclu_jax.errors import UserError
from jigclu_jax.train.checkpoint import Checkpoints, read_checkpoint
from jigclu_jax.train.digests import changed_leaf, digests

Damage = Callable[[Path], object]


def files(workdir: Path, step: int) -> list[Path]:
    return sorted(path for path in (workdir / "checkpoints" / str(step)).rglob("*") if path.is_file())


def flip(path: Path, where: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 1 << bit
    path.write_bytes(bytes(data))


def numbers(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def as_saved(tree: Any, step: int) -> bool:
    wanted = numbers({name: getattr(state(step), name) for name in ("step", "params", "stats", "opt", "extra", "sums")})
    return all((one == other).all() for one, other in zip(numbers(tree), wanted, strict=True))


def test_no_flipped_bit_gives_other_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 10, 20)
    rng = np.random.default_rng(0)
    places = [(path, where) for path in files(tmp_path, 20) for where in range(path.stat().st_size)]
    found = {"refused": 0, "the same": 0}
    for number in rng.choice(len(places), 60, replace=False):
        path, where = places[number]
        whole = path.read_bytes()
        flip(path, where, int(rng.integers(8)))
        try:
            step, _, tree = read_checkpoint(tmp_path)
            assert step == 20 and as_saved(tree, 20), f"{path} byte {where}"
            found["the same"] += 1
        except UserError as error:
            assert_names(str(error), "checkpoint 20 ", str(tmp_path))
            if "format" not in str(error):
                assert_names(str(error), "step 10")
            found["refused"] += 1
        path.write_bytes(whole)
    assert found["refused"] > 12, found


@pytest.mark.parametrize("name", ["params", "opt"])
def test_a_changed_weight_is_found_by_every_reader(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Written anew by orbax with one number changed, beside the meta of before: files that are sound in themselves."""
    save(tmp_path / "good", 10, 20)
    changed = state(20)
    leaf = changed.params["backbone"]["conv1"] if name == "params" else changed.opt[0]["backbone"]["conv1"]
    leaf["kernel"] = leaf["kernel"].at[1, 1].multiply(1 + 2e-7)
    checkpoints = Checkpoints(tmp_path / "other")
    checkpoints.save(20, changed, META)
    checkpoints.close()
    good, other = (tmp_path / name / "checkpoints" / "20" / "state" for name in ("good", "other"))
    good.rename(tmp_path / "aside")
    other.rename(good)
    with raises_naming("checkpoint 20 ", str(tmp_path / "good"), f" {name}/", "conv1/kernel", "step 10"):
        read_checkpoint(tmp_path / "good")
    assert read_checkpoint(tmp_path / "good", "10")[0] == 10
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path / "good") == 10
    assert len([record for record in caplog.records if "checkpoint 20" in record.getMessage()]) == 1


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def nest(path: Path) -> None:
    path.write_text("[" * 100_000)


def other_json(path: Path) -> None:
    path.write_text("{}")


DAMAGES = (empty, halve, Path.unlink, make_folder, nest, other_json)


@pytest.mark.parametrize("damage", [halve, make_folder, nest])
def test_whatever_happens_to_a_file_the_checkpoint_before_it_serves(tmp_path: Path, damage: Damage) -> None:
    save(tmp_path, 10, 20, best=True)
    for path in files(tmp_path, 20):
        if damage is nest and not path.read_bytes().startswith(b"{"):
            continue  # no JSON: nothing reads that far
        whole = path.read_bytes()
        damage(path)
        assert newest(tmp_path) in (10, 20), path
        try:
            step, _, tree = read_checkpoint(tmp_path)
            assert step == 20 and as_saved(tree, 20), path
        except UserError as error:
            assert_names(str(error), "checkpoint 20 ", "step 10")
        assert read_checkpoint(tmp_path, "best")[0] == 10
        if path.is_dir():
            path.rmdir()
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_broken_metrics_of_the_newest_hinder_nobody(tmp_path: Path, damage: Damage) -> None:
    save(tmp_path, 10, 20, best=True)
    damage(tmp_path / "checkpoints" / "20" / "metrics" / "metrics")
    assert newest(tmp_path) == 20
    assert read_checkpoint(tmp_path)[0] == 20
    assert read_checkpoint(tmp_path, "best")[0] == 10, "the score stands in the meta, too"
    save(tmp_path, 30, best=True)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "20", "30"]


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 10)
    (tmp_path / "checkpoints" / "999").mkdir()
    assert newest(tmp_path) == 10
    assert read_checkpoint(tmp_path)[0] == 10
    save(tmp_path, 999)
    assert newest(tmp_path) == 999


META_DAMAGES = {
    "{}": {},
    "no config": {"seconds": 1.0},
    "a list": [],
    "config without a job": {"config": {}, "seconds": 1.0},
    "seconds are text": META | {"seconds": "long"},
    "classes are numbers": META | {"classes": [1, 2]},
    "timed is a number": META | {"timed": 3},
}


@pytest.mark.parametrize("name", META_DAMAGES)
def test_foreign_meta_is_damage(tmp_path: Path, name: str) -> None:
    save(tmp_path, 10, 20)
    (tmp_path / "checkpoints" / "20" / "meta" / "metadata").write_text(json.dumps(META_DAMAGES[name]))
    assert newest(tmp_path) == 10
    with raises_naming("checkpoint 20 ", str(tmp_path), "step 10"):
        read_checkpoint(tmp_path)


def without_digests(workdir: Path, step: int, **changes: Any) -> None:
    """The meta as version 0.1.0 wrote it."""
    path = workdir / "checkpoints" / str(step) / "meta" / "metadata"
    meta = json.loads(path.read_text())
    for name in ("digest", "leaves", "score"):
        del meta[name]
    path.write_text(json.dumps(meta | changes))


def test_checkpoints_of_before_load_and_say_once_that_they_cannot_be_verified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 10, 20, best=True)
    without_digests(tmp_path, 10)
    without_digests(tmp_path, 20)
    for read in (lambda: newest(tmp_path), lambda: read_checkpoint(tmp_path)[0]):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert read() == 20
        assert ["without digests" in record.getMessage() for record in caplog.records] == [True]
    assert read_checkpoint(tmp_path, "best")[0] == 10


def test_half_of_the_digests_is_damage(tmp_path: Path) -> None:
    save(tmp_path, 10)
    path = tmp_path / "checkpoints" / "10" / "meta" / "metadata"
    for name in ("digest", "leaves"):
        meta = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in meta.items() if key != name}))
        with raises_naming("checkpoint 10 ", str(tmp_path), "meta"):
            read_checkpoint(tmp_path)
        path.write_text(json.dumps(meta))


@pytest.mark.parametrize("arch", ["resnet50", "resnet999", 3])
def test_an_encoder_of_another_architecture_than_its_weights_is_refused(tmp_path: Path, arch: object) -> None:
    """A meta of version 0.1.0, which nothing protects, that says another architecture."""
    config = tiny_config()
    make_workdir(tmp_path / "run", config)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    stored["model"]["arch"] = arch
    without_digests(tmp_path / "run", 5, config=stored)
    with raises_naming(f"{tmp_path}/run"):
        load_encoder(tmp_path / "run")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool", "uint8", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (40_000, 2), (0, 3)])
def test_any_changed_word_changes_the_digest(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(jax.numpy.dtype(dtype))
    before = digests({"leaf": values})
    assert digests({"leaf": values.copy()}) == before
    bits = np.atleast_1d(values).view(np.uint8).reshape(-1)
    for byte in np.random.default_rng(1).choice(bits.size, min(bits.size, 20), replace=False):
        bits[byte] ^= 1
        assert changed_leaf(before, digests({"leaf": values})) == "leaf"
        bits[byte] ^= 1
    assert changed_leaf(before, digests({"other": values})) == "leaf"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_digest_does_not_depend_on_the_sharding(dtype: str) -> None:
    """The parts of eight devices, made as those of eight processes are."""
    from jigclu_jax.train.digests import _sum

    leaf = np.random.default_rng(0).standard_normal((16, 24)).astype(jax.numpy.dtype(dtype))
    whole = digests({"leaf": leaf})["leaf"].split()[-1]
    for axis, step in ((0, 2), (1, 3)):
        parts = []
        for first in range(0, leaf.shape[axis], step):
            index = [slice(None), slice(None)]
            index[axis] = slice(first, first + step)
            parts.append(_sum(leaf[tuple(index)], tuple(index), leaf.shape))
        assert f"{sum(parts) % 2**32:08x}" == whole
