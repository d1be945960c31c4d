"""Finds the ResNet backbones among the names of a file's arrays: under which prefix, in whose layout, and whether they are complete.

The rule is general: a prefix is whatever stands before the names of a backbone's layers ("state_dict.module.encoder_q."). What lies below
it must be a whole backbone and nothing else of its kind; a classifier or a projection beside it is left.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jigclu_jax.errors import UserError, first_few
from jigclu_jax.interop.torchvision import nearest_keys

# What torch.compile, FSDP and activation checkpointing put between the names of layers.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# How the name of a residual block's array begins in each layout; what stands before it is the prefix.
_BLOCKS = {
    "torchvision": re.compile(r"(|.*\.)(?=layer[1-4]\.\d+\.)"),
    "sequential": re.compile(r"(|.*\.)(?=\d\.\d+\.(?:conv|bn|downsample)\d?\.)"),  # torch.nn.Sequential of a ResNet's children
    "detectron2": re.compile(r"(|.*\.)(?=res[2-5]\.\d+\.)"),
}
# Names below a prefix that belong to a backbone: one that is not expected makes it another network.
_OWN = re.compile(r"(conv|bn|norm|layer|res|stem|act|gn|se|\d)\d*\.")


@dataclass(frozen=True)
class Candidate:
    """What looks like a backbone.

    Attributes:
      prefix: what stands before its names, with the dot at its end; "" where nothing does.
      layout: "torchvision", "sequential" or "detectron2".
      names: torchvision's name -> the name in the file, of the arrays that a ResNet has.
      missing: names that a ResNet of that depth has beside them.
      unexpected: names below the prefix that no such ResNet has.
      left: names below the prefix that are beside the backbone.
    """

    prefix: str
    layout: str
    names: Mapping[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether it is a whole ResNet and nothing more."""
        return not self.missing and not self.unexpected


def candidates(names: Iterable[str]) -> list[Candidate]:
    """Everything among the names that has a ResNet's residual blocks, in the order in which it is met.

    Raises:
      UserError: two names are the same but for what a wrapper has put into them.
    """
    bare: dict[str, str] = {}
    for name in names:
        short = _bare(name)
        if short in bare:
            raise UserError(f"holds {short} twice, as {bare[short]} and {name}: save one of the two networks alone")
        bare[short] = name
    found: dict[tuple[str, str], None] = {}
    for name in bare:
        for layout, pattern in _BLOCKS.items():
            if match := pattern.match(name):
                found.setdefault((layout, match[1]))
    return [_candidate(layout, prefix, bare) for layout, prefix in found]


def choose(found: list[Candidate], prefix: str, names: Iterable[str]) -> Candidate:
    """The one complete backbone, or the one that `prefix` tells: the whole prefix, or some of its parts ("encoder_q").

    Raises:
      UserError: there is none, or more than one; names what is missing, unexpected, or to choose from.
    """
    wanted = [one for one in found if f".{prefix.strip('.')}." in f".{one.prefix}" or not prefix]
    exact = [one for one in wanted if one.prefix.strip(".") == prefix.strip(".") and prefix]
    whole = [one for one in exact or wanted if one.complete]
    if len(whole) == 1:
        return whole[0]
    if whole:
        listed = ", ".join(repr(one.prefix.rstrip(".")) for one in whole)
        raise UserError(f"holds {len(whole)} backbones, under {listed}: give one of these as the prefix")
    if prefix and found and not wanted:
        raise UserError(
            f"holds no ResNet under the prefix {prefix!r}, but under {', '.join(repr(one.prefix.rstrip('.')) for one in found)}"
        )
    if not wanted:
        raise UserError(f"holds no ResNet; its arrays are {first_few(sorted(names), 4) or 'none'}")
    near = min(wanted, key=lambda one: len(one.missing) + len(one.unexpected))
    under = f"lies under {near.prefix.rstrip('.')!r}" if near.prefix else "it holds"
    parts = [f"; {what}: {first_few(keys, 6)}" for what, keys in (("missing", near.missing), ("unexpected", near.unexpected)) if keys]
    raise UserError(f"what {under} is no whole ResNet{''.join(parts)}")


def groups(names: Iterable[str], prefix: str) -> list[str]:
    """What stands beside the backbone, by the part at which it leaves the prefix: "encoder_k (320 arrays)"."""
    own = prefix.split(".")
    counts: Counter[str] = Counter()
    for name in names:
        parts = _bare(name).split(".")
        shared = next((i for i, (a, b) in enumerate(zip(parts, own, strict=False)) if a != b), len(own) - 1)
        counts[".".join(parts[: shared + 1])] += 1
    return [f"{name} ({count} array{'s' if count > 1 else ''})" for name, count in counts.items()]


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _candidate(layout: str, prefix: str, bare: Mapping[str, str]) -> Candidate:
    below = _downsampled({name.removeprefix(prefix): stored for name, stored in bare.items() if name.startswith(prefix)})
    renamed = _renamed(layout, below)
    expected = nearest_keys(renamed)
    names = {name: stored for name, stored in renamed.items() if name in expected}
    rest = {name: stored for name, stored in renamed.items() if name not in expected and not name.endswith(".num_batches_tracked")}
    unexpected = tuple(stored for name, stored in rest.items() if _OWN.match(name))
    left = tuple(stored for name, stored in rest.items() if not _OWN.match(name))
    return Candidate(prefix, layout, names, tuple(sorted(expected - names.keys())), unexpected, left)


def _downsampled(below: Mapping[str, str]) -> dict[str, str]:
    """The names with torchvision's downsample.0 and .1 for what lightly's ResNets and many of CIFAR call shortcut.0 and .1."""
    names = {name: re.sub(r"\.shortcut\.(?=[01]\.)", ".downsample.", name) for name in below}
    return {name if new in below else new: below[name] for name, new in names.items()}  # who has both is another network


def _renamed(layout: str, below: Mapping[str, str]) -> dict[str, str]:
    """Torchvision's names of the arrays under a prefix; what no rule is for keeps its name."""
    if layout == "sequential":
        stages = sorted({int(name[0]) for name in below if _BLOCKS[layout].match(name)})
        first = stages[0] if stages else 4
        parts = {0: "conv1", 1: "bn1", **{first + i: f"layer{i + 1}" for i in range(4)}}

        def part(match: re.Match[str]) -> str:
            number = int(match[1])
            return parts.get(number, f"fc{number}" if number > first + 3 else match[1])

        return {re.sub(r"^(\d+)(?=\.)", part, name): stored for name, stored in below.items()}
    if layout == "detectron2":
        return {from_detectron2(name): stored for name, stored in below.items()}
    return dict(below)


def from_detectron2(name: str) -> str:
    """Torchvision's name of an array that detectron2 calls `name`: stem.conv1.norm.weight is bn1.weight."""
    name = re.sub(r"^stem\.", "", name)
    name = re.sub(r"^res([2-5])\.", lambda match: f"layer{int(match[1]) - 1}.", name)
    name = re.sub(r"\bshortcut\.norm\.", "downsample.1.", name).replace("shortcut.weight", "downsample.0.weight")
    return re.sub(r"\bconv(\d)\.norm\.", r"bn\1.", name)


def to_detectron2(name: str) -> str:
    """The other way."""
    name = name.replace("downsample.0.weight", "shortcut.weight").replace("downsample.1.", "shortcut.norm.")
    name = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
    return re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name) if name.startswith("layer") else f"stem.{name}"
