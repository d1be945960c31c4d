"""Runs a training job around the loop: workdir, state or checkpoint, step, writers."""

import dataclasses
import functools
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float32
from ml_collections import ConfigDict

import jigclu_jax
from jigclu_jax.atomic_file import write_text
from jigclu_jax.data.input.order import steps_per_epoch
from jigclu_jax.data.sources.opening import Source, open_source
from jigclu_jax.device import distributed, peers
from jigclu_jax.device.mesh import check_batch, create_mesh
from jigclu_jax.errors import NonFiniteError, UserError, counted
from jigclu_jax.json_file import DamagedFile
from jigclu_jax.methods import DataFacts, FeaturesOf, Method
from jigclu_jax.metrics import SPECS_FILE, MetricSpec
from jigclu_jax.train.checkpoint import Checkpoints, check_newest
from jigclu_jax.train.claim import Claim
from jigclu_jax.train.disk import disk_error
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.identity import check_identity
from jigclu_jax.train.introduction import about_to_compile, introduce
from jigclu_jax.train.loop import ROW_METRICS, UNMEASURED, EpochHook, Hooks, Input, Outputs, Start, Trained, fit
from jigclu_jax.train.memory import check_size, own_peak, peak_memory
from jigclu_jax.train.nonfinite import with_examples
from jigclu_jax.train.optimizer import Optimizer, create_optimizer
from jigclu_jax.train.plan import Plan
from jigclu_jax.train.progress import Progress, duration
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.skipped import note_skipped, read_skipped
from jigclu_jax.train.state import STEP_METRICS, TrainState, abstract_state, create_state
from jigclu_jax.train.step import Step, Update, compile_step
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.supply import Batches, Supply, open_supply
from jigclu_jax.train.trace import Trace, profile_window
from jigclu_jax.train.trackers import check_tracker, open_tracker
from jigclu_jax.train.workdir import check_shared, config_as_dict, flatten, open_workdir, read_result
from jigclu_jax.train.writers import create_writer


@dataclasses.dataclass
class Training:
    """A training run made ready: everything checked, nothing written yet.

    Attributes:
      config: resolved config.
      method: from `methods/`.
      facts: what it knows of the data.
      source: training images.
      mesh: all devices.
      plan: lengths and intervals in steps.
      optimizer: from `config.optimizer`.
      target: shapes and places of its state.
      step_fn: the compiled step.
      supply: where its batches come from.
      skipped: damaged images met so far, index -> message.
      claim: of its workdir.
      memory_before: peak of the process, in bytes.
    """

    config: ConfigDict
    method: Method
    facts: DataFacts
    source: Source
    mesh: Mesh
    plan: Plan
    optimizer: Optimizer
    target: TrainState
    step_fn: Step
    supply: Supply
    skipped: dict[int, str] = dataclasses.field(default_factory=dict)
    claim: Claim = dataclasses.field(default_factory=Claim)
    memory_before: int = dataclasses.field(default_factory=peak_memory)

    def initial_state(self) -> TrainState:
        """The state at step 0, from `config.seed`."""
        return create_state(self.method, self.facts, self.optimizer, self.config.seed, self.target)

    def batches(self, start_step: int, stop_step: int, state: TrainState) -> Batches:
        """Host batches of this process; those of a method that orders its epochs lie within one."""
        order = None
        if self.method.works_between_epochs:
            epoch = start_step // self.plan.steps_per_epoch
            images = self.method.epoch_order(epoch, state.extra)
            order = None if images is None else lambda _: images
        return self.supply.batches(start_step, stop_step, order)

    def before_epoch(self, epoch: int, state: TrainState, features_of: FeaturesOf) -> TrainState:
        """The state with what the method makes before an epoch."""
        extra = self.method.before_epoch(epoch, features_of, state.params, state.extra)
        shapes, wanted = (jax.tree.map(lambda leaf: (leaf.shape, jnp.dtype(leaf.dtype)), tree) for tree in (extra, self.target.extra))
        if shapes != wanted:
            raise TypeError(f"before_epoch has returned extra state of other shapes: {shapes}, not {wanted}")
        places = jax.tree.map(lambda leaf: leaf.sharding, self.target.extra)
        return dataclasses.replace(state, extra=jax.tree.map(jax.device_put, extra, places))


def open_images(config: ConfigDict, group: str, classes: Sequence[str] | None = None) -> Source:
    """The images that `config.data` or `config.eval_data` describes; `group` says which of the two; introduces them to a person.

    Raises:
      UserError: anything wrong with the source, told with the name of the group.
    """
    try:
        source = open_source(config[group], seed=config.seed, classes=classes)
        introduce(source, group, config.get("model"))
        return source
    except UserError as error:
        raise UserError(f"config.{group}: {error}") from error


def facts_of(config: ConfigDict, source: Source) -> DataFacts:
    """What a method may know of the data before it is built; a partial last batch does not count."""
    classes = None if source.classes is None else tuple(source.classes)
    return DataFacts(len(source), classes, config.batch_size, max(len(source) // config.batch_size, 1))


def prepare_training(config: ConfigDict, method: Method, source: Source) -> Training:
    """Check that a run whose numbers are in range (`check_config`) can work, and build its step.

    Raises:
      UserError: batch, sizes or intervals that cannot work, or fewer images than one batch.
    """
    peers.agree(_facts(config, source))
    check_tracker(config.log.tracker)
    mesh = create_mesh()
    peers.agree({"number of devices": jax.local_device_count()})  # each process reads as large a part of a batch
    check_batch(config.batch_size, mesh, accumulate=config.accumulate)
    optimizer, ema_decay = create_optimizer(config.optimizer), config.get("ema_decay", 0.0)
    if method.whole_batches and len(source) < config.batch_size:
        raise UserError(
            f"{source.name} holds {counted(len(source), 'image')}, fewer than one batch of config.batch_size={config.batch_size}: "
            "lower it, or give more images"
        )
    per_epoch = steps_per_epoch(len(source), config.batch_size, method.whole_batches)
    schedule = create_schedule(config.optimizer, per_epoch, config.epochs)
    facts = dataclasses.replace(facts_of(config, source), steps_per_epoch=per_epoch)
    target = abstract_state(method, facts, optimizer, mesh, ema=ema_decay > 0, shard=config.optimizer.shard_state)
    total_steps = max(round(config.epochs * per_epoch), 1)
    check_size(config, method, target, mesh, total_steps)
    supply = open_supply(config, source, method, facts, mesh)
    plan = Plan(
        total_steps=total_steps,
        steps_per_epoch=per_epoch,
        log_every=config.log_every_steps,
        save_every=max(round(config.saving.every_epochs * per_epoch), 1),
        dispatch=supply.feed.dispatch,
    )
    update = Update(optimizer, schedule, per_epoch, ema_decay, config.accumulate)
    step_fn = compile_step(method, update, mesh, supply.feed, target)
    return Training(config, method, facts, source, mesh, plan, optimizer, target, step_fn, supply, dict(supply.skipped))


def metric_specs(method: Method, hooks: Sequence[EpochHook]) -> tuple[MetricSpec, ...]:
    """Everything that a run measures."""
    return (*method.metrics, *STEP_METRICS, *(spec for hook in hooks for spec in hook.metrics))


def _facts(config: ConfigDict, source: Source) -> dict[str, Any]:
    """What must be the same on every process, as strings and numbers."""
    fields = {f"config.{name}": value for name, value in flatten(config_as_dict(config)).items()}
    classes = hashlib.sha256("\0".join(source.classes or ()).encode()).hexdigest()[:12]
    versions = {"version of jigclu_jax": jigclu_jax.__version__, "version of jax": jax.__version__}
    return {**fields, **versions, "number of images": len(source), "digest of the class list": classes}


def training_result(training: Training, workdir: epath.PathLike, trained: Trained) -> dict[str, Any]:
    """The fields of result.json that every training job has."""
    fields = {
        "job": training.config.job,
        "seed": training.config.seed,
        "seconds": trained.seconds,
        "images_per_second": trained.images_per_second,
        "memory_gib": own_peak(training.memory_before),
        "images_skipped": len(read_skipped(workdir)),
    }
    try:
        before = read_result(workdir)
    except DamagedFile as error:  # it is about to be written anew
        logging.warning("%s", error)
        before = None
    if not trained.steps and before:  # the run was complete already: what trained it then stays named
        fields |= {name: before.get(name) for name in ("images_skipped", "memory_gib", "commit", "version")}
        fields["images_per_second"] = before.get("images_per_second") or trained.images_per_second
    return fields


def run_training(
    training: Training,
    workdir: epath.PathLike,
    *,
    start: TrainState | None = None,
    identity: Mapping[str, str] | None = None,
    begin: Callable[[epath.Path], None] | None = None,
    features_of: Callable[[TrainState], Float32[np.ndarray, "n d"]] | None = None,
    epoch_hooks: tuple[EpochHook, ...] = (),
) -> Trained:
    """Train to the end, from the newest checkpoint of the workdir where there is one.

    Resume policy: a checkpoint counts once it is complete; the run goes on from the newest that can be read, with rows of
    `metrics.jsonl` after it dropped. Batches are a function of the step, so that the position is all that is needed. A config
    that differs, another number of images (more of them: without `config.grown_data`), or another class list is refused.

    Args:
      training: from `prepare_training`.
      workdir: where config.json, metrics.jsonl, tensorboard/ and checkpoints/ go.
      start: state at step 0; default is random weights.
      identity: what else must be the same when the run goes on, name -> fingerprint.
      begin: called with the opened workdir on the process that writes files: pictures of the input, say.
      features_of: frozen features of the whole data set, for methods that work between epochs.
      epoch_hooks: evaluations after each epoch.

    Raises:
      UserError: the workdir belongs to another run or is being worked on, its disk is full or read-only, or an image cannot be used.
        A workdir that this call began, and that holds no checkpoint yet, is emptied again.
      NonFiniteError, Preempted: see `train/loop.py`.
    """
    peers.agree({"--workdir": os.fspath(workdir)})  # nothing is written before every process has found everything in order
    with held_workdir(workdir, training.config) as training.claim:
        try:
            return _run(training, workdir, start, identity or {}, begin, features_of, epoch_hooks)
        except Exception as error:
            mistake = error if isinstance(error, UserError) else disk_error(error, workdir)
            if mistake is None:
                raise
            raise mistake from error.__cause__


def _run(
    training: Training,
    workdir: epath.PathLike,
    start: TrainState | None,
    identity: Mapping[str, str],
    begin: Callable[[epath.Path], None] | None,
    features_of: Callable[[TrainState], Float32[np.ndarray, "n d"]] | None,
    epoch_hooks: tuple[EpochHook, ...],
) -> Trained:
    config, plan = training.config, training.plan
    main = distributed.is_main()
    source = training.source
    classes = list(source.classes) if source.classes else None
    meta: dict[str, Any] = {"config": config_as_dict(config), "classes": classes, "images": len(source), **identity}

    def check(old: Mapping[str, Any]) -> None:
        check_identity(old, meta, epath.Path(workdir), tuple(identity), training.target if config.grown_data else None)

    check_newest(workdir, training.target, check)  # a refusal must leave the workdir with the config of its checkpoints
    root = open_workdir(workdir, config, write=main)
    specs = metric_specs(training.method, epoch_hooks)
    if main:
        write_text(root / SPECS_FILE, json.dumps([dataclasses.asdict(spec) for spec in (*specs, *ROW_METRICS)], indent=2) + "\n")
        if begin is not None:
            begin(root)
    peers.agree({})  # process 0 has written
    check_shared(root)
    saving = config.saving
    checkpoints = Checkpoints(root, best_metric=saving.best_metric, best_mode=saving.best_mode, before_save=training.claim.check)
    peers.agree({f"list of checkpoints in {root}": checkpoints.steps()})
    earlier: tuple[int, float] = (0, 0.0)
    old: Mapping[str, Any] = {}
    restored = checkpoints.restore_newest(training.target, check)
    if restored:
        state, old = restored
        meta["seconds"] = old["seconds"]
        earlier = tuple(old.get("timed", earlier))  # a checkpoint of an earlier version does not say
    else:
        state = training.initial_state() if start is None else start
    first = int(state.step)
    peers.agree({"step of the newest checkpoint that can be read": first})
    if distributed.several():
        STOP.pass_on()
    tracker = functools.partial(open_tracker, config, root) if config.log.tracker else None
    writer = create_writer(root, tensorboard=config.log.tensorboard, resume_step=first, enabled=main, tracker=tracker)
    stderr = sys.stderr if main else None
    progress = Progress(plan.total_steps, plan.steps_per_epoch, config.batch_size, stream=stderr, timed=earlier, specs=specs)
    if first >= plan.total_steps:
        progress.say(f"{root} is complete: {counted(first, 'step')}, nothing left to train")
    elif first:
        grown = (
            f", with {counted(len(source), 'image')} where there were {old['images']:,}"
            if old.get("images") not in (None, len(source))
            else ""
        )
        progress.say(f"{root}: going on from step {first} of {plan.total_steps}{grown}")
    if first < plan.total_steps:
        progress.say(about_to_compile(len(source), config.batch_size, training.mesh.size, plan.total_steps - first))
    stream: Batches | None = None

    def batches_between(begin: int, end: int, state: TrainState) -> Batches:
        nonlocal stream
        close()
        stream = training.batches(begin, end, state)
        return stream

    def close() -> None:
        if stream is not None:
            training.skipped.update(stream.skipped)
            stream.close()

    def before_epoch(epoch: int, state: TrainState) -> TrainState:
        assert features_of is not None
        return training.before_epoch(epoch, state, lambda: features_of(state))

    try:
        with jax.debug_nans(config.debug.nans):
            trained = fit(
                Start(state, meta, unmeasured=bool(old.get(UNMEASURED))),
                training.step_fn,
                Input(batches_between, training.mesh),
                plan,
                Outputs(checkpoints, writer, progress, Trace(root, profile_window(config.profile, first)) if main else None),
                STOP,
                Hooks(before_epoch if training.method.works_between_epochs else None, epoch_hooks),
            )
        if trained.steps:
            progress.say(f"trained in {duration(trained.seconds)}, compilation and saving included")  # as the page says it
        return trained
    except NonFiniteError as error:
        raise with_examples(error, config, source, plan.steps_per_epoch, root if main else None) from error.__cause__
    finally:
        progress.close()
        writer.close()
        close()
        checkpoints.close()
        if main:
            note_skipped(root, training.skipped.values())
