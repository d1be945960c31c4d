"""`--config.some.field=value`, by the type of the field's default."""

import pytest
from ml_collections import ConfigDict

from jigclu_jax.config import pretrain_config
from jigclu_jax.config.check import field_names
from jigclu_jax.config.override import override
from jigclu_jax.errors import UserError


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
    before = {field: _at(config, field) for field in field_names(config)}
    override(config, name, text)
    after = {field: _at(config, field) for field in field_names(config)}
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
        ("epochs", "5.5", "config.epochs=5.5 is not of type int: give a whole number, it is 200"),
        ("epochs", "abc", "config.epochs=abc is not of type int"),
        ("epochs", "True", "config.epochs=True is not of type int"),
        ("epochs", "", "config.epochs= is not of type int"),
        ("epochs", None, "--config.epochs has no value"),
        ("epochs", False, "--noconfig.epochs: config.epochs is no switch"),
        ("optimizer.learning_rate", "fast", "config.optimizer.learning_rate=fast is not of type float: give a number, it is 0.03"),
        ("optimizer.per_epoch", "yes", "config.optimizer.per_epoch=yes is not of type bool: use True or False"),
        ("optimizer.milestones", "(a,b)", "config.optimizer.milestones=(a,b) is not of type tuple: give numbers"),
        (
            "augment.crop_area",
            "'0.2'",
            "config.augment.crop_area='0.2' is not of type tuple: give numbers as in --config.augment.crop_area=0.2,1.0",
        ),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(config: ConfigDict, name: str, text: str | bool | None, expected: str) -> None:
    before = config.to_json()
    with pytest.raises(UserError) as raised:
        override(config, name, text, where="x.py")
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)
    assert config.to_json() == before


def _at(config: ConfigDict, name: str) -> object:
    node = config
    for part in name.split("."):
        node = node[part]
    return node
