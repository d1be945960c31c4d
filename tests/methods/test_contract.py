"""The contract for methods: a throw-away method that uses all of it trains in every place, and ends with the same bits however killed."""

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import processes
import pytest
from jobs.tiny import NO_COLOURS
from ml_collections import ConfigDict

import jigclu_jax.methods
from jigclu_jax.config import pretrain_config
from jigclu_jax.config.jobs import method_names
from jigclu_jax.errors import Preempted, UserError
from jigclu_jax.jobs import pretrain
from jigclu_jax.methods import DataFacts, create_method, output_shapes
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.workdir import config_as_dict
from jigclu_jax.train.writers import JsonlWriter

FOLDER = Path(__file__).with_name("throwaway")
EPOCHS, IMAGES, BATCH = 3, 40, 8


@pytest.fixture(autouse=True)
def beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jigclu_jax.methods, "__path__", [*jigclu_jax.methods.__path__, str(FOLDER)])


def config(**data: Any) -> ConfigDict:
    found = pretrain_config("ledger")
    found.update({"epochs": EPOCHS, "batch_size": BATCH, "log_every_steps": 1})
    found.model.update({"arch": "resnet10", "stem": "small", "width": 0.05})
    found.optimizer.update({"learning_rate": 0.01})
    found.data.update({"source": "embedded", "limit": IMAGES, "image_size": 32, "min_side": 1, "augment": "device", **data})
    found.online.eval_data.update({"split": "validation", "resize": 32, "crop": 32})
    found.log.update({"tensorboard": False, "pictures": False})
    found.augment.update(NO_COLOURS)
    return found


def trained(workdir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """State of the last checkpoint, and the rows without what a clock says."""
    _, _, tree = read_checkpoint(workdir)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return tree, [{name: value for name, value in row.items() if name not in ("images_per_second", "input_wait")} for row in rows]


def assert_same(one: Path, other: Path) -> None:
    (tree, rows), (tree_too, rows_too) = trained(one), trained(other)
    assert jax.tree.structure(tree) == jax.tree.structure(tree_too)
    jax.tree.map(np.testing.assert_array_equal, tree, tree_too)
    assert rows == rows_too


def test_a_method_is_found_by_its_file_and_its_settings_by_its_fields() -> None:
    assert "ledger" in method_names() and {"jigclu", "supervised"} <= set(method_names())
    with pytest.raises(UserError, match=r"config\.method\.name='ledgr'.*'ledger'"):
        found = config()
        found.method.name = "ledgr"
        create_method(found, DataFacts(IMAGES, None, BATCH, 5))
    assert config().method.clusters == 3 and config().saving.best_metric == "accuracy_clusters"


def test_the_state_follows_from_the_data() -> None:
    facts = DataFacts(43, None, BATCH, 5)
    method = create_method(config(), facts)
    _, _, extra = jax.eval_shape(lambda: method.init(jax.random.key(0), facts))
    assert extra["queue"].shape == (40, 3) and extra["clusters"].shape == (43,)
    assert output_shapes(method, facts)["features"].shape[:2] == (BATCH, 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jigclu_jax.methods, "__path__", [*jigclu_jax.methods.__path__, str(FOLDER)])
        workdir = tmp_path_factory.mktemp("ledger") / "run"
        pretrain.run(config(), workdir)
        yield workdir


def test_every_hook_has_worked(finished: Path) -> None:
    tree, rows = trained(finished)
    assert int(tree["extra"]["epochs"]) == EPOCHS, "before_epoch"
    assert [row["epochs"] for row in rows] == [1.0] * 5 + [2.0] * 5 + [3.0] * 5
    facts = DataFacts(IMAGES, None, BATCH, 5)
    first = jax.jit(lambda key: create_method(config(), facts).init(key, facts)[2]["queue"])(jax.random.key(0))
    assert int(tree["extra"]["pointer"]) == 0 and (tree["extra"]["queue"] != first).all(), "the queue was written, round after round"
    moved = jax.tree.map(lambda t, p: float(np.abs(t - p).max()), tree["extra"]["teacher"], tree["params"]["backbone"])
    assert 0 < max(jax.tree.leaves(moved)) < 1, "after_update"
    specs = json.loads((finished / "metric_specs.json").read_text())
    assert {"loss", "accuracy_clusters", "epochs", "gradient_norm"} <= {spec["name"] for spec in specs}


@pytest.mark.parametrize(("place", "dispatch"), [("resident", 3), pytest.param("host", 1, marks=pytest.mark.slow)])
def test_the_other_places_train_it_as_well(finished: Path, tmp_path: Path, place: str, dispatch: int) -> None:
    """From the devices' memory by several steps a call."""
    found = config(augment=place, dispatch_steps=dispatch)
    found.log_every_steps = 5 if dispatch > 1 else 1
    pretrain.run(found, tmp_path / place)
    tree, rows = trained(tmp_path / place)
    expected = trained(finished)[1][found.log_every_steps - 1 :: found.log_every_steps]
    assert [row["step"] for row in rows] == [row["step"] for row in expected] and int(tree["extra"]["epochs"]) == EPOCHS
    assert rows[0]["loss"] == pytest.approx(expected[0]["loss"], rel=0.02), "nearly the same pictures"


def test_micro_batches_and_watches(tmp_path: Path) -> None:
    found = config()
    found.accumulate = 2
    found.online.head, found.online.every_epochs, found.online.neighbours = True, 1, 5
    pretrain.run(found, tmp_path / "run")
    tree, rows = trained(tmp_path / "run")
    assert int(tree["extra"]["epochs"]) == EPOCHS and rows[-1]["step"] == 15
    assert {"online_top1", "knn_top1", "rank_features"} <= rows[-1].keys()


def test_stopped_and_resumed_to_the_same_bits(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a request to stop in the middle of the second epoch."""
    write = JsonlWriter.write

    def stop_at_seven(self: JsonlWriter, step: int, metrics: Mapping[str, Any]) -> None:
        write(self, step, metrics)
        if step == 7:
            STOP.request()

    with monkeypatch.context() as patch:
        patch.setattr(JsonlWriter, "write", stop_at_seven)
        with pytest.raises(Preempted):
            pretrain.run(config(), tmp_path / "stopped")
    STOP.clear()
    assert 7 <= len(trained(tmp_path / "stopped")[1]) < 10
    pretrain.run(config(), tmp_path / "stopped")
    assert_same(tmp_path / "stopped", finished)


@pytest.mark.slow
def test_killed_and_resumed_to_the_same_bits(finished: Path, tmp_path: Path) -> None:
    """By SIGKILL in mid-epoch, with a checkpoint every two steps; again and again: jobs/test_kills.py."""
    whole, killed = config(), tmp_path / "killed"
    whole.saving.every_epochs = 0.4
    path, fields = tmp_path / "config.py", config_as_dict(whole)
    path.write_text(f"from jigclu_jax.config import config_from_dict\ndef get_config(): return config_from_dict({fields!r})\n")
    arguments = [str(FOLDER), f"--config={path}", f"--workdir={killed}"]
    run = processes.start(arguments)
    processes.wait_for_rows(killed, 8, [run])
    run.send_signal(signal.SIGKILL)
    run.communicate()
    pretrain.run(whole, killed)
    assert_same(killed, finished)
