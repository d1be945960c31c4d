"""Fine-tuning on a tiny backbone: starts, rates, the search on a held-out part, and going on after a stop."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny
from named_errors import raises_naming
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax.config import load_config
from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.encoder import load_encoder
from jigclu_jax.errors import NonFiniteError, Preempted
from jigclu_jax.interop import to_torchvision
from jigclu_jax.jobs import classifier, finetune
from jigclu_jax.methods import DataFacts, Method
from jigclu_jax.metrics import loss_spec
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import init_state
from jigclu_jax.train.step import Update, train_step
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.writers import read_metrics

SEARCH = {"learning_rates": (0.01, 0.05), "weight_decays": (), "held_out": 0.25, "epochs": 1}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # a width whose channel counts tell it: weights in a file say nothing else
    return make_workdir(tmp_path_factory.mktemp("pretrained") / "run", tiny_config(width=0.0625))


def result_of(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / "result.json").read_text())


def assert_same_tree(left: Any, right: Any) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


# --- rates


@dataclasses.dataclass(frozen=True)
class Slope(Method):
    """A method whose gradient is 1 everywhere: what a step takes off a parameter is its learning rate."""

    metrics = (loss_spec("loss", "loss"),)

    def init(self, key: jax.Array, facts: DataFacts) -> Any:
        del key, facts
        return {"backbone": {"kernel": jnp.zeros(())}, "classifier": {"kernel": jnp.zeros(()), "bias": jnp.zeros(())}}, {}, {}

    def forward(self, params: Any, stats: Any, extra: Any, batch: Any, train: bool = True) -> Any:
        return {"sum": sum(jax.tree.leaves(params))}, stats, extra

    def objective(self, params: Any, outputs: Any, extra: Any, batch: Any) -> Any:
        return outputs["sum"], (extra, {"loss": outputs["sum"]})


# epochs up to and with, rate of the backbone, rate of the classifier: the authors' command lines and what their code makes of them
RATES = {
    ("imagenet_1pct", "meant"): ((29, 0.02, 5.0), (59, 0.002, 0.5), (89, 0.0002, 0.05), (99, 0.00002, 0.005)),
    ("imagenet_1pct", "coded"): ((29, 0.02, 0.02), (59, 0.002, 0.002), (89, 0.0002, 0.0002), (99, 0.00002, 0.00002)),
    ("imagenet_10pct", "meant"): ((29, 0.01, 0.2), (59, 0.001, 0.02), (89, 0.0001, 0.002), (99, 0.00001, 0.0002)),
    ("imagenet_10pct", "coded"): ((29, 0.01, 0.01), (59, 0.001, 0.001), (89, 0.0001, 0.0001), (99, 0.00001, 0.00001)),
}


@pytest.mark.parametrize(("preset", "schedule_as"), list(RATES))
def test_the_semi_supervised_rates_of_every_epoch(preset: str, schedule_as: str) -> None:
    config = load_config(tiny.CONFIGS / "finetune.py", f"preset={preset}" + (",coded" if schedule_as == "coded" else ""))
    assert (config.batch_size, config.epochs, config.optimizer.weight_decay, config.optimizer.momentum) == (256, 100, 0.0, 0.9)
    assert (config.augment.crop_area, config.data.image_size, config.eval_data.resize) == ((0.08, 1.0), 224, 256)
    config = finetune.with_head_rate(config)
    config.optimizer.momentum = 0.0
    optimizer = create_optimizer(config.optimizer)
    update = Update(optimizer, create_schedule(config.optimizer, 2, 100), 2)
    step = jax.jit(lambda state: train_step(Slope(), update, state, {})[0])
    state = init_state(Slope(), DataFacts(512, None, 256, 2), optimizer, jax.random.key(0))
    found = []
    for _ in range(200):
        start = dataclasses.replace(state, params=jax.tree.map(jnp.zeros_like, state.params))
        state = step(start)
        found.append([-float(state.params["backbone"]["kernel"]), *(-float(leaf) for leaf in state.params["classifier"].values())])
    expected = [
        next([backbone, head, head] for last, backbone, head in RATES[preset, schedule_as] if number // 2 <= last) for number in range(200)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_heads_rate_is_set_once_however_often_and_leaves_other_multipliers() -> None:
    config = tiny.finetune_config(head_multiplier=10.0)
    config.optimizer.multipliers = (("backbone/*", 0.1),)
    once = finetune.with_head_rate(config)
    assert once.optimizer.multipliers == (("backbone/*", 0.1), ("classifier/*", 10.0))
    assert finetune.with_head_rate(once).optimizer.multipliers == once.optimizer.multipliers
    once.schedule_as = "coded"
    assert finetune.with_head_rate(once).optimizer.multipliers == (("backbone/*", 0.1),)


# --- starts


@pytest.mark.slow
def test_the_backbone_starts_from_the_checkpoint_and_only_its_statistics_move_at_rate_0(pretrained: Path, tmp_path: Path) -> None:
    config = tiny.finetune_config(str(pretrained), epochs=1)
    config.optimizer.learning_rate = 0.0
    finetune.run(config, tmp_path / "run")
    before, after = read_checkpoint(pretrained)[2], read_checkpoint(tmp_path / "run")[2]
    assert_same_tree(after["params"]["backbone"], before["params"]["backbone"])
    assert after["stats"].keys() == {"backbone"}
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (after["stats"]["backbone"], before["stats"]["backbone"])), strict=True)
    ]
    assert all(moved), "BatchNorm runs in training mode"
    assert result_of(tmp_path / "run")["checkpoint_step"] == 5


@pytest.mark.slow
def test_imported_weights_start_the_same_run_as_their_checkpoint(pretrained: Path, tmp_path: Path) -> None:
    tree = read_checkpoint(pretrained)[2]
    np.savez(tmp_path / "backbone.npz", **to_torchvision(tree["params"]["backbone"], tree["stats"]["backbone"]))
    finetune.run(tiny.finetune_config(str(pretrained), epochs=1), tmp_path / "ours")
    config = tiny.finetune_config(epochs=1, init="weights", weights=str(tmp_path / "backbone.npz"))
    config.model.stem = ""
    finetune.run(config, tmp_path / "imported")
    ours, imported = (read_checkpoint(tmp_path / name)[2] for name in ("ours", "imported"))
    assert_same_tree(imported["params"], ours["params"])
    config.model.width = 0.1
    with raises_naming("backbone.npz", "model.width", "config.model.width is 0.1"):
        finetune.run(config, tmp_path / "wider")
    assert not (tmp_path / "wider").exists()


def test_figures_are_those_of_the_saved_backbone_and_classifier(pretrained: Path, tmp_path: Path) -> None:
    """An oracle that shares nothing with the evaluation loop: features by the encoder, accuracy by numpy."""
    from jigclu_jax.data.augment.crops import resize_and_centre_crop
    from jigclu_jax.data.sources.toy import load_embedded

    config = tiny.finetune_config(str(pretrained))
    config.eval_data.limit = 0
    finetune.run(config, tmp_path / "run")
    result, rows = result_of(tmp_path / "run"), [row for row in read_metrics(tmp_path / "run") if "finetune_top1" in row]
    images, labels, _ = load_embedded("validation")
    images = np.stack([resize_and_centre_crop(image, 32, 32) for image in images])
    head = read_checkpoint(tmp_path / "run")[2]["params"]["classifier"]
    scores = load_encoder(tmp_path / "run")(images) @ head["kernel"] + head["bias"]
    order = np.argsort(-scores, axis=1)
    assert result["finetune_top1_last"] == pytest.approx((order[:, 0] == labels).mean(), abs=2 / len(labels))
    assert result["finetune_top5_last"] == pytest.approx((order[:, :5] == labels[:, None]).any(1).mean(), abs=3 / len(labels))
    assert [row["epoch"] for row in rows] == [1.0, 2.0]
    assert result["finetune_top1_best"] == max(row["finetune_top1"] for row in rows)
    low, high = result["finetune_top1_last_interval"]
    # the normal interval of as many images, for which the share of right ones is not too near 0
    half = 1.96 * (result["finetune_top1_last"] * (1 - result["finetune_top1_last"]) / len(labels)) ** 0.5
    assert (low, high) == pytest.approx((result["finetune_top1_last"] - half, result["finetune_top1_last"] + half), abs=0.005)
    assert (result["train_images"], result["eval_images"], result["probe_top1_last"]) == (96, len(labels), None)
    assert (tmp_path / "run" / "report.html").exists()


# --- the search


@pytest.fixture(scope="module")
def searched(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str, int]]]:
    """A searched run with a control from scratch, and every pass over images that were judged on: (where, source, images)."""
    workdir, looks = tmp_path_factory.mktemp("searched") / "run", []
    run_training = classifier.run_training
    with pytest.MonkeyPatch.context() as patch:
        where = [""]

        def noted(training: Any, root: Any, **options: Any) -> Any:
            where[0] = str(Path(root).relative_to(workdir))
            return run_training(training, root, **options)

        class Noted(EvalStream):
            def __init__(self, source: Any, *rest: Any, **options: Any) -> None:
                looks.append((where[0], source.name, len(source)))
                super().__init__(source, *rest, **options)

        patch.setattr(classifier, "run_training", noted)
        patch.setattr("jigclu_jax.jobs.accuracy.EvalStream", Noted)
        config = tiny.finetune_config(str(pretrained), controls="random")
        config.search.update(SEARCH)
        finetune.run(config, workdir)
    return workdir, looks


@pytest.mark.slow
def test_trials_are_judged_on_train_and_the_evaluation_images_are_seen_once(searched: tuple[Path, list[tuple[str, str, int]]]) -> None:
    workdir, looks = searched
    trials = [f"trials/learning_rate={rate},weight_decay=0.0001" for rate in ("0.01", "0.05")]
    expected = [*trials, "final"]
    assert [where for where, _, _ in looks] == [*expected, *(f"controls/random/{name}" for name in expected)]
    for where, source, images in looks:
        if where.endswith("final"):
            assert source.startswith("embedded/validation") and images == 40
        else:
            assert source.startswith("embedded/train (96 of ") and images == 32  # 16 classes of 6: 2 of each
    assert [read_metrics(workdir / name)[-1]["step"] for name in expected] == [4, 4, 12]  # 64 images an epoch in trials, 96 at last


@pytest.mark.slow
def test_the_best_trial_gives_the_final_runs_values(searched: tuple[Path, list[tuple[str, str, int]]]) -> None:
    workdir, _ = searched
    for root in (workdir, workdir / "controls" / "random"):
        result = result_of(root)
        top1 = [result_of(root / "trials" / f"learning_rate={rate},weight_decay=0.0001")["finetune_top1_last"] for rate in ("0.01", "0.05")]
        assert [trial["top1"] for trial in result["search"]] == top1
        rate = (0.01, 0.05)[int(np.argmax(top1))]
        assert result["chosen"] == {"learning_rate": rate, "weight_decay": 0.0001}
        final = json.loads((root / "final" / "config.json").read_text())
        assert (final["optimizer"]["learning_rate"], final["held_out"], final["search"]["learning_rates"]) == (rate, 0.0, [])
        assert result["finetune_top1_last"] == result["finetune_top1_best"] == result_of(root / "final")["finetune_top1_last"]
    control = result_of(workdir)["controls"]["random"]
    assert control["finetune_top1_last"] == result_of(workdir / "controls" / "random")["finetune_top1_last"]
    assert not list(workdir.glob("trials/*/checkpoints")) and (workdir / "final" / "checkpoints").exists()
    page = (workdir / "report.html").read_text()
    assert all(text in page for text in ("pretrained backbone", "from scratch", "held-out part of train", "Search"))


@pytest.mark.slow
def test_a_stopped_search_goes_on_and_runs_no_trial_twice(
    searched: tuple[Path, list[tuple[str, str, int]]], pretrained: Path, tmp_path: Path
) -> None:
    config = tiny.finetune_config(str(pretrained))
    config.search.update(SEARCH)
    first, second = (tmp_path / "run" / "trials" / f"learning_rate={rate},weight_decay=0.0001" for rate in ("0.01", "0.05"))
    single = finetune._single

    def stopping(config: Any, root: Any, *rest: Any) -> Any:
        if Path(root) == second:
            STOP.request()
        return single(config, root, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "_single", stopping)
        with pytest.raises(Preempted):
            finetune.run(config, tmp_path / "run")
    STOP.clear()
    assert (second / "checkpoints").exists() and not (second / "result.json").exists()
    before = (first / "result.json").stat().st_mtime_ns
    finetune.run(config, tmp_path / "run")
    assert (first / "result.json").stat().st_mtime_ns == before
    found, straight = result_of(tmp_path / "run"), result_of(searched[0])
    for name in ("search", "chosen", "finetune_top1_last", "finetune_top5_last"):
        assert found[name] == straight[name]
    assert_same_tree(read_checkpoint(tmp_path / "run" / "final")[2], read_checkpoint(searched[0] / "final")[2])


@pytest.mark.slow
def test_a_trial_that_diverges_loses(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(training: Any, root: Any, **options: Any) -> Any:
        raise NonFiniteError("loss or gradient is not finite since step 2")

    config = tiny.finetune_config(str(pretrained))
    config.search.update(SEARCH)
    monkeypatch.setattr(classifier, "run_training", train)
    with raises_naming("/trials", "config.search.learning_rates"):
        finetune.run(config, tmp_path / "run")
    monkeypatch.undo()
    (tmp_path / "run" / "trials" / "learning_rate=0.05,weight_decay=0.0001" / "result.json").unlink()
    finetune.run(config, tmp_path / "run")
    result = result_of(tmp_path / "run")
    assert [trial["top1"] is None for trial in result["search"]] == [True, False]
    assert result["chosen"]["learning_rate"] == 0.05
    assert "diverged" in (tmp_path / "run" / "report.html").read_text()


def test_a_short_trial_drops_its_rate_where_the_whole_run_does() -> None:
    config = load_config(tiny.CONFIGS / "finetune.py", "preset=imagenet_10pct")
    config.search.epochs = 1
    trial = finetune._trial_config(config, 0.01, 0.0)
    schedule = create_schedule(trial.optimizer, 4, 1)
    assert [float(schedule(jnp.int32(step))) for step in range(4)] == pytest.approx([0.01] * 4), "as its name says"
    config.search.epochs = 10
    assert finetune._trial_config(config, 0.01, 0.0).optimizer.milestones == (3, 6, 9)
