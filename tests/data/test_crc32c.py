"""CRC-32C against published values and a bitwise computation."""

import numpy as np
import pytest
from data import tfrecords

from jigclu_jax.data.sources.crc32c import crc32c, masked_crc32c


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, section B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@pytest.mark.parametrize("length", [1, 3, 4, 63, 64, 65, 1023, 1024, 1025, 2048, 5000])
def test_lengths_around_the_blocks(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()
    assert crc32c(data) == tfrecords.crc32c(data)
    assert masked_crc32c(data) == tfrecords.masked(data)


def test_every_single_bit_counts() -> None:
    data = bytes(3000)
    whole = crc32c(data)
    for position in range(0, 24000, 997):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        assert crc32c(bytes(flipped)) != whole
