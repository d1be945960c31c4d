"""Random numbers by name: a stream of its own for every operation, a function of (seed, epoch, example, view, position) alone.

The generator is Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), which has no state: a
number is a function of a key and a counter. It is written for any array library, given as `xp`, so that the host (numpy) and the
accelerator (`jax.numpy`) draw the same numbers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt32

# The counter's first word, by operation. A number is never given twice nor changed: pictures of old seeds would change.
STREAMS = {"crop": 0, "flip": 1, "jitter": 2, "order": 3, "brightness": 4, "contrast": 5, "saturation": 6, "hue": 7, "grayscale": 8}
STREAMS |= {"blur": 9, "sigma": 10, "solarize": 11}

_NO_VIEW = 2**16  # in place of a view's number

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF

Key = tuple[Any, Any]  # two words uint32, arrays of one shape


def threefry(key: Key, first: Any, second: Any) -> Key:
    """Two random words uint32 for each counter (first, second); key and counter are uint32 arrays that broadcast."""
    words = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = first + words[0], second + words[1]
    for turn in range(5):
        for rotation in _ROTATIONS[turn % 2]:
            x = x + y
            y = ((y << rotation) | (y >> (32 - rotation))) ^ x
        x, y = x + words[(turn + 1) % 3], y + words[(turn + 2) % 3] + (turn + 1)
    return x, y


def crop_keys(seed: int, epoch: Any, example: Any, view: int, position: Any, xp: Any = np) -> Key:
    """The key of each of n crops: words uint32[n, 1].

    Args:
      seed: of the run, below 2 ** 64.
      epoch: a number, or int[n].
      example: index of the image in the data set, int[n].
      view: number of the view in its method.
      position: which of the image's crops it is, int[n].
      xp: numpy or jax.numpy.
    """

    def words(value: Any) -> Any:
        return xp.atleast_1d(xp.asarray(value)).astype(xp.uint32)[:, None]

    key = words(np.uint32(seed & _WORD)), words(np.uint32(seed >> 32 & _WORD))
    key = threefry(key, words(epoch), words(example))
    return threefry(key, words(np.uint32(view)), words(position))


def image_uniforms(seed: int, epoch: Any, example: Any, count: int, xp: Any = np) -> Float[Any, "n count"]:
    """`count` numbers in [0, 1) for each of n images and epochs, which no crop uses: for what a method draws itself."""
    return uniforms(crop_keys(seed, epoch, example, _NO_VIEW, 0, xp), {"crop": count}, xp)["crop"]


def uniforms(key: Key, counts: Mapping[str, int], xp: Any = np) -> dict[str, Float[Any, "n count"]]:
    """`counts[stream]` numbers in [0, 1) of each stream for each of the n crops: multiples of 2 ** -24, float64 in numpy, else float32."""
    pairs = {name: -(-count // 2) for name, count in counts.items()}
    stream = np.concatenate([np.full(length, STREAMS[name], np.uint32) for name, length in pairs.items()])
    number = np.concatenate([np.arange(length, dtype=np.uint32) for length in pairs.values()])
    both: UInt32[Any, "n all 2"] = xp.stack(threefry(key, xp.asarray(stream)[None], xp.asarray(number)[None]), axis=2)
    values = (both >> 8).astype(np.float64 if xp is np else xp.float32) * 2.0**-24
    found, start = {}, 0
    for name, length in pairs.items():
        found[name] = values[:, start : start + length].reshape(len(values), -1)[:, : counts[name]]
        start += length
    return found
