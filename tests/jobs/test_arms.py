"""Arms of a study: rows spelled out in the config, and compute counted in forward passes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming

from jigclu_jax.config import check_config, load_config, pretrain_config
from jigclu_jax.config.jobs import method_names
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.studies import ablation
from jigclu_jax.studies.ablation_tables import row_config, table_rows
from jigclu_jax.studies.cost import u_per_image
from jigclu_jax.train.workdir import open_workdir, write_result

FACTS = DataFacts(96, tuple("abc"), 16, 6)


def study(*arms: str, **arguments: Any) -> ConfigDict:
    config = load_config("configs/study_methods.py", ",".join(f"{name}={value}" for name, value in arguments.items()) or None)
    config.arms = arms or config.arms
    return config


def small(method: str, side: int, **settings: Any) -> ConfigDict:
    config = pretrain_config(method)
    config.update({"batch_size": 16, "epochs": 1})
    config.model.update({"arch": "resnet10", "stem": "small", "width": 0.25})
    config.data.update({"image_size": side, "min_side": 1})
    config.online.eval_data.update({"resize": 32, "crop": 32})
    config.method.update(settings)
    return config


def test_every_arm_of_the_study_is_a_pretraining_that_can_be() -> None:
    config = study()
    rows = table_rows(config)
    assert rows[0].key == "jigclu" and len(rows) > 2
    for row in rows:
        made = row_config(config.pretrain, row, 3, 7)
        check_config(made)
        assert (made.seed, made.epochs, made.batch_size) == (3, 7, 64)
        create_method(made, DataFacts(2000, tuple("abc"), 64, 31))
    names = [row_config(config.pretrain, row, 0, 1).method.name for row in rows]
    assert {*names} == {*method_names()} - {"linear"}, "every method has its arm"


def test_an_arm_sets_fields_of_its_own_method() -> None:
    config = study("a", "b method.name=simclr method.temperature=0.25 augment.crop_area=(0.3,1.0) optimizer.learning_rate=0.5")
    one, other = (row_config(config.pretrain, row, 0, 5) for row in table_rows(config))
    assert (one.method.name, other.method.name, other.method.temperature) == ("jigclu", "simclr", 0.25)
    assert (other.augment.crop_area, other.optimizer.learning_rate) == ((0.3, 1.0), 0.5)
    assert one.optimizer.learning_rate == config.pretrain.optimizer.learning_rate


@pytest.mark.parametrize(
    ("arms", "named"),
    [
        (("a methd.name=simclr",), "methd.name"),
        (("a method.temperature=cold",), "method.temperature"),
        (("a method.name=simcl",), "simclr"),
        (("a", "a seed=1"), "config.arms"),
    ],
)
def test_an_arm_that_cannot_be_read_is_named(arms: tuple[str, ...], named: str) -> None:
    with raises_naming(named):
        table_rows(study(*arms))


def test_no_arms_are_no_table() -> None:
    config = study()
    config.arms = ()
    with raises_naming("config.arms"):
        table_rows(config)


def test_u_is_counted_from_the_step() -> None:
    """A training pass is three forward passes, but for the first convolution, whose input needs no gradient."""
    montage = u_per_image(small("jigclu", 32), FACTS)
    assert montage == pytest.approx(3, rel=0.07)
    assert u_per_image(small("jigclu", 64), FACTS) == pytest.approx(4 * montage, rel=0.07), "four times the pixels"
    assert u_per_image(small("simclr", 32, hidden_dim=64), FACTS) == pytest.approx(2 * montage, rel=0.07), "two views"


def test_compute_cannot_be_counted_without_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(backend: str) -> None:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", refused)
    with raises_naming("JAX_PLATFORMS"):
        u_per_image(small("jigclu", 32), FACTS)


@pytest.mark.parametrize(("arm", "expected"), [("moco", 4), ("byol", 8), ("fastsiam", 12), ("rotation", 12), ("instdisc", 3)])
def test_u_of_the_methods_are_those_of_the_page(arm: str, expected: float) -> None:
    """docs/which_method.md: three for each training pass, one for each pass of a network that is not trained."""
    config = study(arch="resnet10", width=0.25)
    (row,) = (row for row in table_rows(config) if row.key == arm)
    assert u_per_image(row_config(config.pretrain, row, 0, 1), DataFacts(2000, None, 64, 31)) == pytest.approx(expected, rel=0.08)


def test_equal_u_gives_each_arm_the_epochs_it_can_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: dict[str, float] = {}
    judged: list[tuple[str, str, float]] = []

    def run(config: ConfigDict, workdir: Any) -> None:
        root = open_workdir(workdir, config)
        if config.job == "pretrain":
            epochs[config.method.name] = config.epochs
            assert config.optimizer.warmup_epochs < config.epochs
        else:
            judged.append((config.job, root.name, config.data.fraction))
        result = {"seconds": 1.0, "images_per_second": 1.0, "probe_top1_last": 0.5, "probe_top1_last_interval": [0.4, 0.6]}
        write_result(root, {"job": config.job} | result)

    monkeypatch.setattr(ablation, "find_job", lambda name: SimpleNamespace(run=run))
    monkeypatch.setattr(ablation, "u_per_image", lambda config, facts: {"jigclu": 3.0, "simclr": 6.0}[config.method.name])
    config = study("jigclu", "simclr method.name=simclr", epochs=20, seeds=1, judge="evaluate", few=0.01)
    config.pretrain.data.update({"source": "embedded", "limit": 96})
    ablation.run(config, tmp_path / "run")
    assert epochs == {"jigclu": 20, "simclr": 10}
    assert judged == 2 * [("evaluate", "judge", 0.0), ("evaluate", "judge_few", 0.01)]
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert [(row["row"], row["u"], row["epochs"]) for row in rows] == [("jigclu", 3.0, 20), ("simclr", 6.0, 10)]
    assert "u an image" in (tmp_path / "run" / "table.md").read_text()
