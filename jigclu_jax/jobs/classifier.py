"""Trains a classifier on the features of a given backbone and measures it after epochs: what the jobs `probe` and `finetune` share.

The method is training with labels from another state at step 0. Whether the backbone moves as well, `config.optimizer.multipliers` say.
"""

import dataclasses
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_best_metric, check_config
from jigclu_jax.data.sources.opening import Source, why_unlabelled
from jigclu_jax.device.mesh import check_batch
from jigclu_jax.errors import UserError
from jigclu_jax.evals.frozen import digest
from jigclu_jax.jobs.accuracy import accuracy_hook, accuracy_results, open_eval_source
from jigclu_jax.jobs.backbones import Backbone, with_backbone
from jigclu_jax.jobs.reporting import live_page
from jigclu_jax.methods import Classifier, create_method
from jigclu_jax.train.freezing import split
from jigclu_jax.train.loop import EpochHook
from jigclu_jax.train.memory import check_pass
from jigclu_jax.train.run import Training, facts_of, open_images, prepare_training, run_training, training_result
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.workdir import check_workdir


@dataclasses.dataclass(frozen=True)
class Classification:
    """A classifier's training made ready: everything checked, nothing written yet.

    Attributes:
      training: of the method in `config.method`.
      hook: measures accuracies after epochs.
      eval_source: the images that accuracies are measured on.
    """

    training: Training
    hook: EpochHook
    eval_source: Source

    def start(self, backbone: Backbone | None) -> TrainState:
        """The state at step 0 with that backbone; None: with the random one of `config.seed`."""
        state = self.training.initial_state()
        if backbone is None:
            return state
        return with_backbone(state, backbone)

    def train(self, root: epath.PathLike, start: TrainState) -> dict[str, Any]:
        """Train to the end; returns the fields of result.json that both jobs have.

        Raises:
          RuntimeError: what is frozen has moved.
          UserError, NonFiniteError, Preempted: see `train/run.py: run_training`.
        """
        training, config = self.training, self.training.config
        before = self._frozen(start)
        identity = {"backbone": digest({"params": start.params["backbone"], "stats": start.stats["backbone"]})}
        trained = run_training(
            training, root, start=start, identity=identity, epoch_hooks=(self.hook, *live_page(config.report.every, training.plan, root))
        )
        if self._frozen(trained.state) != before:
            raise RuntimeError("frozen weights have changed in training: its results are void; this is a fault of the program")
        images = {"train_images": len(training.source)}
        return training_result(training, root, trained) | images | accuracy_results(root, config, self.eval_source)

    def _frozen(self, state: TrainState) -> str:
        return digest([split(tree, self.training.optimizer.frozen)[1] for tree in (state.params, state.stats)])


def prepare_classification(config: ConfigDict, root: epath.PathLike, source: Source, eval_source: Source) -> Classification:
    """Check everything and build the step.

    Raises:
      UserError: a config, a workdir or images that cannot work; a probe whose backbone would move.
    """
    check_config(config)
    check_workdir(root, config)
    method = create_method(config, facts_of(config, source))
    if not isinstance(method, Classifier):
        raise UserError(f"config.method.name={config.method.name!r} scores no classes: it belongs to another job than {config.job}")
    check_best_metric(config, (f"{config.job}_top1", f"{config.job}_top5", *(spec.name for spec in method.metrics)))
    training = prepare_training(config, method, source)
    check_batch(config.eval_batch_size, training.mesh, "eval_batch_size")
    sizes = config.eval_batch_size, config.eval_data.crop
    check_pass(config.model, *sizes, training.mesh, "config.eval_batch_size or config.eval_data.crop")
    moving = split(training.target.params, training.optimizer.frozen)[0]["backbone"]
    if not method.trains_backbone and jax.tree.leaves(moving):
        raise UserError(
            f"config.optimizer.multipliers={config.optimizer.multipliers}: the backbone of a {config.job} stands still; "
            "keep ('backbone/*', 0.0) among them, or use the job finetune"
        )
    return Classification(training, accuracy_hook(training, eval_source), eval_source)


def open_labelled(config: ConfigDict) -> tuple[Source, Source]:
    """Training and evaluation images.

    Raises:
      UserError: there are no labels, or anything else of the images.
    """
    source = open_images(config, "data")
    if source.classes is None:
        raise UserError(f"config.data: {source.name} has no labels, and job {config.job} needs them: {why_unlabelled(source)}")
    return source, open_eval_source(config, source)
