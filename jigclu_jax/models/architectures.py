"""The table of backbones: how many blocks, which kind, how wide. Plain Python, so that other folders may read it."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from jigclu_jax.errors import UserError


@dataclass(frozen=True)
class Architecture:
    """One line of the table: residual blocks of the four stages, their kind, and the groups of a bottleneck's 3x3."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    groups: int = 1
    group_width: int = 64  # channels of one group in the first stage; doubles with every stage


_TABLE: dict[str, Architecture] = {
    "resnet10": Architecture((1, 1, 1, 1), bottleneck=False),  # not of torchvision: for tests and for CPUs
    "resnet18": Architecture((2, 2, 2, 2), bottleneck=False),
    "resnet34": Architecture((3, 4, 6, 3), bottleneck=False),
    "resnet50": Architecture((3, 4, 6, 3), bottleneck=True),
    "resnet101": Architecture((3, 4, 23, 3), bottleneck=True),
    "resnet152": Architecture((3, 8, 36, 3), bottleneck=True),
    "resnext50_32x4d": Architecture((3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
    "resnext101_32x8d": Architecture((3, 4, 23, 3), bottleneck=True, groups=32, group_width=8),
    "wide_resnet50_2": Architecture((3, 4, 6, 3), bottleneck=True, group_width=128),
    "wide_resnet101_2": Architecture((3, 4, 23, 3), bottleneck=True, group_width=128),
}

ARCHITECTURES: tuple[str, ...] = tuple(_TABLE)
STEMS: tuple[str, ...] = ("imagenet", "small")
DTYPES: tuple[str, ...] = ("float32", "bfloat16", "float64")
PRECISIONS: tuple[str, ...] = ("default", "highest")


def check_choice(field: str, value: str, choices: Sequence[str]) -> None:
    """Raises UserError with the nearest name when `value` of config field `field` is not one of `choices`."""
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    raise UserError(f'{field}="{value}" is unknown: {hint}choose one of {", ".join(choices)}')


def architecture(name: str) -> Architecture:
    """The table's line for torchvision's name of a backbone; UserError with the nearest name for an unknown one."""
    check_choice("model.arch", name, ARCHITECTURES)
    return _TABLE[name]


def scaled(channels: int, width: float) -> int:
    """A channel count under the width multiplier: rounded, at least 1."""
    return max(1, round(channels * width))


def stage_channels(arch: Architecture, stage: int, width: float) -> tuple[int, int]:
    """Channels inside a block of stage 0..3 and at its output.

    Groups stay as many as they are and each keeps at least one channel, so that a narrow ResNeXt remains one.
    """
    planes = 64 * 2**stage
    if not arch.bottleneck:
        return scaled(planes, width), scaled(planes, width)
    inner = arch.groups * scaled(arch.group_width * 2**stage, width)
    return inner, 4 * scaled(planes, width)
