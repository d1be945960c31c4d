"""What a fine-tuning is given that cannot work: one line, exit code 2, nothing written."""

from pathlib import Path

import numpy as np
import pytest
from refusals import ROOT, Refused, images, keep_signal_handler, pretrained, refused

__all__ = ["images", "keep_signal_handler", "pretrained", "refused"]  # fixtures

CONFIG = f"--config={ROOT}/configs/finetune.py:small,batch_size=8,epochs=2"


def line(images: Path, checkpoint: Path | str, source: str = "labelled.npz") -> list[str]:
    place = ["--config.data.source=arrays", f"--config.data.path={images}/{source}", "--config.data.split=", "--config.eval_data.split="]
    return [CONFIG, *place, f"--config.checkpoint={checkpoint}"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config.init=torch"], "config.init='torch' is unknown: use 'checkpoint' or 'weights' or 'random'"),
        (["--config.schedule_as=code"], "config.schedule_as='code' is unknown: "),
        (["--config.init=weights"], "config.weights is empty: give a file of weights"),
        (["--config.controls=weights"], "config.weights is empty: give a file"),
        (["--config.controls=scratch"], "config.controls='scratch': use 'random', 'weights' or 'random,weights'"),
        (["--config.init=random", "--config.controls=random"], "config.controls='random': use"),
        (["--config.init=random"], "config.model.arch is empty, and config.init='random' does not say it"),
        (["--config.search.held_out=0"], "config.search.held_out=0.0 must be above 0 and below 1"),
        (["--config.held_out=1"], "config.held_out=1.0 must be from 0 to below 1"),
        (["--config.held_out=0.5"], "config.held_out=0.5 and config.search exclude each other"),
        (["--config.search.learning_rates=0.1,0.1"], "config.search.learning_rates=(0.1, 0.1) must hold distinct numbers"),
        (["--config.search.learning_rates=-1,2"], "must hold distinct numbers from 0"),
        (["--config.head_multiplier=-1"], "config.head_multiplier=-1.0 must be from 0"),
        (["--config.method.name=jigclu"], "config.method.name='jigclu' scores no classes"),
        (["--config.data.fraction=0.01"], "less than one image a class: set fraction to at least 0.1"),
        (["--config.data.limit=8"], "fewer than one batch of config.batch_size=8: lower it, or give more images"),
        (["--config.saving.best_metric=probe_top1"], "config.saving.best_metric='probe_top1' is not measured by this run"),
        (["--config.model.arch=resnet50"], "belongs to another backbone: its model.arch is 'resnet10', config.model.arch is 'resnet50'"),
    ],
)
def test_a_fine_tuning_that_cannot_work(refused: Refused, images: Path, pretrained: Path, arguments: list[str], expected: str) -> None:
    assert expected in refused(*line(images, pretrained), *arguments)


def test_starts_and_labels_that_are_not_there(refused: Refused, images: Path, pretrained: Path, tmp_path: Path) -> None:
    assert refused(CONFIG).startswith("config.checkpoint is empty: give the workdir of a pretraining run")
    assert "has no labels, and job finetune needs them" in refused(*line(images, pretrained, "unlabelled.npz"))
    assert "all training images are of one class ('0')" in refused(*line(images, pretrained, "one_class.npz"))
    (tmp_path / "backbone.npz").write_bytes(b"no weights")
    assert "backbone.npz: text (no weights), not a file of weights" in refused(
        *line(images, ""), "--config.init=weights", f"--config.weights={tmp_path}/backbone.npz"
    )
    more = np.load(images / "labelled.npz")["image"]
    np.savez(tmp_path / "more.npz", image=more, label=np.arange(len(more)) % 6)
    said = refused(*line(images, pretrained), "--config.eval_data.source=arrays", f"--config.eval_data.path={tmp_path}/more.npz")
    assert said.endswith("classes that the training does not know: 4, 5; it knows 0, 1, 2, 3")
