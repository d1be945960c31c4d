"""The authors' numbers: everything in float64 to 1e-6 relative, the first step's outputs in float32 to 1e-4 of the largest."""

import jax
import jax.numpy as jnp
import pytest
from golden import authors_numbers as authors
from golden.float64_errors import float64_errors

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("file", "numbers"),
    [
        ("loss.npz", 2),
        ("resnet18_p32.npz", 295),
        pytest.param("resnet18_p112.npz", 292, marks=SLOW),
        pytest.param("resnet50_p112.npz", 721, marks=SLOW),
    ],
)
def test_float64(float64: None, file: str, numbers: int) -> None:
    errors = float64_errors(file)
    assert len(errors) == numbers
    assert {name: error for name, error in errors.items() if not error <= 1e-6} == {}


@pytest.mark.parametrize("file", [authors.FILES[0], *(pytest.param(file, marks=SLOW) for file in authors.FILES[1:])])
def test_float32(file: str) -> None:
    config, arrays = authors.load(file)
    network = authors.Network(config, "float32")
    batch = authors.golden_batch(config, 0)
    _, ((clu, loc), outputs, _) = jax.jit(network.loss)(
        *network.weights(), jnp.asarray(batch.image), jnp.asarray(batch.cluster), jnp.asarray(batch.location)
    )
    errors = dict(authors.output_errors(arrays, batch, clu, loc, outputs))
    assert {name: error for name, error in errors.items() if not error <= 1e-4} == {}
