"""Arguments after the colon of `--config=FILE:ARGS`."""

import pytest
from named_errors import raises_naming

from jigclu_jax.config import parse_arg
from jigclu_jax.errors import UserError

DEFAULTS = {"arch": "resnet50", "epochs": 200, "width": 1.0, "bfloat16": False}


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (None, {}),
        ("", {}),
        ("epochs=20", {"epochs": 20}),
        ("epochs=20,arch=resnet18", {"epochs": 20, "arch": "resnet18"}),
        (" width=0.5 , bfloat16 ,", {"width": 0.5, "bfloat16": True}),
        ("width=1", {"width": 1.0}),
        ("bfloat16=False", {"bfloat16": False}),
        ("bfloat16=1", {"bfloat16": True}),
        ("arch=a=b", {"arch": "a=b"}),
    ],
)
def test_values_have_the_types_of_their_defaults(text: str | None, changed: dict[str, object]) -> None:
    values = parse_arg(text, **DEFAULTS)
    assert values == {**DEFAULTS, **changed}
    assert {name: type(value) for name, value in values.items()} == {name: type(value) for name, value in DEFAULTS.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("archh=resnet18", "config argument 'archh' is unknown: did you mean arch?"),
        ("zzz=1", "config argument 'zzz' is unknown: it takes arch, epochs, width, bfloat16"),
        ("epochs=abc", "config argument epochs=abc is not of type int"),
        ("epochs=1.5", "config argument epochs=1.5 is not of type int"),
        ("width=wide", "config argument width=wide is not of type float"),
        ("bfloat16=maybe", "config argument bfloat16=maybe is not of type bool"),
    ],
)
def test_a_mistake_is_named(text: str, expected: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_arg(text, **DEFAULTS)
    assert str(raised.value) == expected


def test_a_name_without_a_value_is_a_switch_and_nothing_else() -> None:
    with raises_naming("width"):
        parse_arg("width", **DEFAULTS)
    with raises_naming("arch"):
        parse_arg("arch", **DEFAULTS)


def test_a_file_without_arguments_says_so() -> None:
    with raises_naming("'a'"):
        parse_arg("a=1")
