"""Training with labels: its loss, and images without classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny
from tiny_backbone import crop_batch, tiny_backbone

from jigclu_jax.config import load_config
from jigclu_jax.errors import UserError
from jigclu_jax.methods import DataFacts, create_method, supervised


def test_the_loss_is_the_mean_over_images_that_are_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "build_backbone", lambda model: tiny_backbone(model.dtype, blocks=1))
    found = load_config(tiny.CONFIGS / "pretrain_supervised.py", "preset=cifar10,width=0.05")
    method = create_method(found, DataFacts(40, tuple("abcde"), 8, 5))
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(0, 5, 8)
    batch = crop_batch(np.zeros((8, 32, 32, 3)), label, np.arange(8) < 6)
    loss, (_, metrics) = method.objective({}, {"logits": jnp.asarray(logits)}, {}, jax.tree.map(jnp.asarray, batch))
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(share[range(6), label[:6]]).mean(), rel=1e-5)
    assert float(metrics["accuracy_top1"]) == pytest.approx((logits.argmax(axis=1) == label)[:6].mean())


@pytest.mark.parametrize("classes", [None, ("one",)])
def test_images_without_classes_are_refused(classes: tuple[str, ...] | None) -> None:
    with pytest.raises(UserError, match="classes"):
        create_method(load_config(tiny.CONFIGS / "pretrain_supervised.py", "preset=folder"), DataFacts(40, classes, 8, 5))


@pytest.mark.parametrize("preset", ["imagenet", "cifar10", "folder"])
def test_the_recipes(preset: str) -> None:
    found = load_config(tiny.CONFIGS / "pretrain_supervised.py", f"preset={preset}")
    assert found.optimizer.learning_rate == pytest.approx(0.1) and found.augment.jitter_probability == 0
    assert found.optimizer.schedule == ("step" if preset == "imagenet" else "cosine")
    assert found.data.split == "train", "labels are those of split/class/file"
