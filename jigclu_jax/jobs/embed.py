"""Job `embed`: features of every image of a source, with its name, in one file.

They are computed and kept in parts, so that a million images need no more memory than a part, and a job that was stopped goes on.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jigclu_jax.config import check_config
from jigclu_jax.data.input.evaluation import EvalStream
from jigclu_jax.data.sources.fingerprint import fingerprint
from jigclu_jax.data.sources.opening import NamesImages, Relabelled, Source, Subset, subset_seed
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.device.mesh import check_batch, create_mesh, replicated
from jigclu_jax.errors import UserError, counted
from jigclu_jax.evals.bank_file import bank_key, read_bank, write_bank
from jigclu_jax.evals.embedding_file import Embeddings, write_embeddings
from jigclu_jax.evals.features import FeatureBank, compile_features, compute_features
from jigclu_jax.jobs.backbones import Backbone, check_origin, open_backbone, origin_fields
from jigclu_jax.json_file import DamagedFile
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.claim import Claim
from jigclu_jax.train.counting import counter, stopping
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.memory import check_pass
from jigclu_jax.train.run import open_images
from jigclu_jax.train.workdir import open_workdir, read_result, write_result

PARTS = "parts"  # folder in the workdir, removed at the end


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Compute the features of `config.data` by the backbone of `config.checkpoint` or `config.weights`.

    Leaves features.npz (or .parquet, .csv) and result.json.

    Raises:
      UserError: no backbone, no images, or a format that this machine cannot write.
      Preempted: SIGTERM has come; the parts that are complete stay.
    """
    distributed.start()
    start_cache()
    check_config(config)
    check_origin(config)
    with held_workdir(workdir, config) as claim:
        _embed(config, workdir, claim)


def _embed(config: ConfigDict, workdir: epath.PathLike, claim: Claim) -> None:
    backbone, source = open_backbone(config), open_images(config, "data")
    root = open_workdir(workdir, config, write=distributed.is_main())
    path = root / f"features.{config.format}"
    mesh = create_mesh()
    check_batch(config.eval_batch_size, mesh, "eval_batch_size")
    check_pass(backbone.model, config.eval_batch_size, config.crop, mesh, "config.eval_batch_size or config.crop")
    about = _depends_on(config, backbone, source)
    whole = bank_key(**about, begin=0, end=len(source))
    if _is_complete(root, path, whole):
        if distributed.is_main():
            print(f"features of these images by this backbone are complete: {path}", flush=True)
        return
    keys = list(_computed(config, backbone, source, root, mesh, about))
    if not distributed.is_main():
        return
    rows = sum(count for _, count in keys)
    if not rows:
        raise UserError(f"config.data: no image of {source.name} could be used: there are no features")
    dim = len(_part(root, keys[0][0]).features[0])
    begins = range(0, len(source), config.part_images)
    name = names_of(source)
    parts = (_named(_part(root, key), name, begin) for (key, _), begin in zip(keys, begins, strict=True))
    claim.check()
    write_embeddings(path, parts, rows, dim)
    (root / PARTS).rmtree()
    job = {"job": "embed", "backbone": backbone.origin, "model": backbone.model, "backbone_digest": backbone.digest, "seed": config.seed}
    images = {"features": path.name, "images": rows, "images_skipped": len(source) - rows, "dim": dim}
    write_result(root, job | origin_fields(config, backbone) | images | {"key": whole, "bytes": path.stat().length})
    print(f"features of {counted(rows, 'image')}, {dim} numbers each: {path}", flush=True)


def _depends_on(config: ConfigDict, backbone: Backbone, source: Source) -> dict[str, Any]:
    """What features follow from: weights, images, and how they are cut."""
    seed = subset_seed(config.data, config.seed) if config.data.limit or config.data.fraction else 0
    images = {"images": fingerprint(source, config.data), "seed": seed}
    return {"weights": backbone.digest, "model": backbone.model, **images, **_sizes(config).to_dict()}


def _sizes(config: ConfigDict) -> ConfigDict:
    return ConfigDict({name: config[name] for name in ("resize", "crop")} | {name: config.data[name] for name in ("on_error", "min_side")})


def _is_complete(root: epath.Path, path: epath.Path, key: str) -> bool:
    """Whether the file is there that an earlier call of one process has made of the same."""
    try:
        found = read_result(root) or {}
    except DamagedFile:  # a new one will take its place
        return False
    return jax.process_count() == 1 and found.get("key") == key and path.exists() and found.get("bytes") == path.stat().length


def _computed(
    config: ConfigDict, backbone: Backbone, source: Source, root: epath.Path, mesh: Mesh, about: Mapping[str, Any]
) -> Iterator[tuple[str, int]]:
    """(key, rows) of every part; computes those that are not on disk."""
    forward = compile_features(backbone.model, mesh)
    params, stats = jax.device_put((backbone.params, backbone.stats), replicated(mesh))
    say = counter(f"features of {source.name}, {backbone.origin}")
    if jax.process_count() == 1:  # several would have to stop at the same batch
        say = stopping(say, "features that are complete stay")
    for begin in range(0, len(source), config.part_images):
        part = Subset(source, np.arange(begin, min(begin + config.part_images, len(source))))
        key = bank_key(**about, begin=begin, end=begin + len(part))
        say(begin, len(source))
        bank = read_bank(root / PARTS, key) if jax.process_count() == 1 else None
        if bank is None:
            hosts = {"host": jax.process_index(), "hosts": jax.process_count()}
            batches = EvalStream(part, _sizes(config), batch_size=config.eval_batch_size, group="data", **hosts)
            try:
                bank = compute_features(forward, params, stats, batches, mesh, functools.partial(_say_part, say, begin, len(source)))
            finally:
                batches.close()
            if distributed.is_main() and write_bank(root / PARTS, key, bank, {"begin": begin}) is None:
                raise UserError(f"--workdir={root} cannot be written")
        yield key, len(bank)


def _say_part(say: Callable[[int, int], None], begin: int, count: int, done: int) -> None:
    say(begin + done, count)


def _part(root: epath.Path, key: str) -> FeatureBank:
    bank = read_bank(root / PARTS, key)
    if bank is None:
        raise UserError(f"a part of {root / PARTS} is gone: start the same command again")
    return bank


def _named(bank: FeatureBank, name: Callable[[int], str], begin: int) -> Embeddings:
    return Embeddings([name(begin + int(index)) for index in bank.indices], bank.features, bank.labels)


def names_of(source: Source) -> Callable[[int], str]:
    """Index -> the path of the image below its folder, or what its source calls it; the source gives its list of names once."""
    indices = np.arange(len(source))
    while isinstance(source, Subset | Relabelled):
        indices = source.indices[indices] if isinstance(source, Subset) else indices
        source = source.origin
    inner, ids = source, source.ids if isinstance(source, NamesImages) else None
    return lambda index: ids[indices[index]] if ids else inner.describe(int(indices[index]))
