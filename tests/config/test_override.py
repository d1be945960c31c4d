"""`--config.some.field=value`, by the type of the field's default."""

import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming

from jigclu_jax.config import ablation_config, pretrain_config
from jigclu_jax.config.command_line import override
from jigclu_jax.errors import UserError
from jigclu_jax.train.workdir import flatten


@pytest.fixture
def config() -> ConfigDict:
    made = pretrain_config()
    made.lock()
    return made


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "20", 20),
        ("optimizer.learning_rate", "1e-3", 1e-3),
        ("optimizer.learning_rate", "1", 1.0),
        ("model.arch", "resnet18", "resnet18"),
        ("model.arch", "", ""),
        ("data.path", "/a=b:c,d", "/a=b:c,d"),
        ("force_config", "True", True),
        ("force_config", "false", False),
        ("force_config", None, True),
        ("optimizer.per_epoch", False, False),
        ("optimizer.per_epoch", "0", False),
        ("optimizer.milestones", "(30,60)", (30, 60)),
        ("optimizer.milestones", "30,60", (30, 60)),
        ("optimizer.milestones", "30", (30,)),
        ("optimizer.milestones", "()", ()),
        ("augment.crop_area", "[0.1, 1]", (0.1, 1.0)),
        ("optimizer.multipliers", "(('backbone/*', 0.1), ('backbone/layer1/*', 0))", (("backbone/*", 0.1), ("backbone/layer1/*", 0))),
        ("optimizer.no_decay", "'location/*',", ("location/*",)),
    ],
)
def test_a_field_is_set_in_its_type(config: ConfigDict, name: str, text: str | bool | None, value: object) -> None:
    before = flatten(config.to_dict())
    override(config, name, text)
    after = flatten(config.to_dict())
    assert after == {**before, name: value}
    assert type(after[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("seeed", "1", "config.seeed is no field of x.py: did you mean config.seed?"),
        ("model.arhc", "resnet18", "config.model.arhc is no field of x.py: did you mean config.model.arch?"),
        ("modle.arch", "resnet18", "config.modle.arch is no field of x.py: did you mean config.model.arch?"),
        ("arch", "resnet18", "config.arch is no field of x.py: did you mean config.model.arch?"),
        ("learning_rat", "1", "config.learning_rat is no field of x.py: did you mean config.optimizer.learning_rate?"),
        ("epochs.more", "1", "config.epochs.more is no field of x.py: did you mean"),
        ("qqqq", "1", "config.qqqq is no field of x.py: jigclu_jax/config/jobs.py lists the fields"),
        ("", "1", "config. is no field of x.py"),
        ("model", "1", "config.model is a group of fields: set one of config.model.arch, "),
        ("epochs", "5.5", "config.epochs=5.5 is not of type int: give a whole number"),
        ("epochs", "abc", "config.epochs=abc is not of type int"),
        ("epochs", "True", "config.epochs=True is not of type int"),
        ("epochs", "", "config.epochs= is not of type int"),
        ("epochs", None, "--config.epochs has no value"),
        ("epochs", False, "--noconfig.epochs: config.epochs is no switch"),
        ("optimizer.learning_rate", "fast", "config.optimizer.learning_rate=fast is not of type float: give a number"),
        ("optimizer.per_epoch", "yes", "config.optimizer.per_epoch=yes is not of type bool: use True or False"),
        ("optimizer.milestones", "(a,b)", "config.optimizer.milestones=(a,b) is not of type tuple: give numbers"),
        ("optimizer.milestones", "9" * 400, "config.optimizer.milestones=999"),
        (
            "augment.crop_area",
            "0.2,x",
            "config.augment.crop_area=0.2,x is not of type tuple: give numbers, as in --config.",
        ),
        ("data.grid", "3", "config.data.grid is no field of x.py: it is called config.method.grid now"),
        ("loss.temperature", "3", "config.loss.temperature is no field of x.py: it is called config.method.temperature now"),
        ("head.embedding_dim", "3", "config.head.embedding_dim is no field of x.py: it is called config.method.embedding_dim now"),
        ("checkpoint.best_metric", "", "config.checkpoint.best_metric is no field of x.py: it is called config.saving.best_metric now"),
        ("input", "cells", "config.input is no field of x.py: it is called config.method.input now"),
        ("method", "supervised", "config.method is no field of x.py: it is called config.method.name now"),
        ("method.name", "jigcul", "config.method.name='jigcul' is unknown: did you mean 'jigclu'?"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(config: ConfigDict, name: str, text: str | bool | None, expected: str) -> None:
    before = config.to_json()
    with pytest.raises(UserError) as raised:
        override(config, name, text, where="x.py")
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)
    assert config.to_json() == before


def test_the_name_of_a_method_brings_its_own_fields(config: ConfigDict) -> None:
    override(config, "method.temperature", "0.5")
    override(config, "method.name", "supervised")
    assert config.method.to_dict() == {"name": "supervised"}
    override(config, "method.name", "jigclu")
    assert config.method.to_dict() == pretrain_config().method.to_dict()


def test_the_name_of_a_method_brings_what_it_wants_of_the_rest_where_nothing_else_was_said(config: ConfigDict) -> None:
    override(config, "augment.hue", "0.05")
    override(config, "method.name", "simclr")
    wanted = pretrain_config("simclr")
    assert config.saving.best_metric == wanted.saving.best_metric != pretrain_config().saving.best_metric
    assert config.augment.crop_area == wanted.augment.crop_area != pretrain_config().augment.crop_area
    assert config.augment.hue == 0.05


def test_a_field_of_a_config_inside() -> None:
    config = ablation_config()
    override(config, "pretrain.method.grid", "3")
    override(config, "judge.probe.learning_rates", "1")
    assert (config.pretrain.method.grid, config.judge.probe.learning_rates) == (3, (1.0,))
    with raises_naming("x.py", "config.pretrain.data.grid", "config.pretrain.method.grid"):
        override(config, "pretrain.data.grid", "3", where="x.py")
