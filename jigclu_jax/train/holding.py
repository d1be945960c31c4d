"""Holds a workdir for a job, from before its images are opened to its end."""

import contextlib
import os
from collections.abc import Iterator

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import is_remote
from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError
from jigclu_jax.train.claim import Claim, claimed_folder
from jigclu_jax.train.workdir import check_workdir, discard_run, has_run, only_begun


@contextlib.contextmanager
def held_workdir(workdir: epath.PathLike, config: ConfigDict) -> Iterator[Claim]:
    """Holds the workdir for the block; of several processes of a run the one that writes files does.

    A job that ends with a mistake of the user's, that had begun the workdir, and that has saved nothing, leaves the folder as it was.

    Raises:
      UserError: the workdir holds another run, is being worked on by another process, or cannot be written.
    """
    check_apart(workdir, config)
    check_workdir(workdir, config)
    if not distributed.is_main():
        yield Claim()
        return
    root = epath.Path(workdir)
    there = {path.name for path in root.iterdir()} if root.exists() else set()
    begun = has_run(root)
    with claimed_folder(root) as claim:
        try:
            yield claim
        except UserError:
            if not begun and only_begun(root, there):
                discard_run(root, keep=there)
            raise


def check_apart(folder: epath.PathLike, config: ConfigDict, option: str = "--workdir") -> None:
    """UserError for a folder of results in which a run would find its images again, or whose folders would become classes."""
    for group in ("data", "eval_data"):
        data = config.get(group)
        if data is None or data.get("source") != "folder" or not data.path or is_remote(data.path) or is_remote(folder):
            continue
        images = epath.Path(data.path).expanduser().resolve() / data.split
        own = epath.Path(folder).expanduser().resolve()
        if own == images or (data.split and images in own.parents):
            raise UserError(f"{option}={os.fspath(folder)} lies among the images of config.{group}: give a folder outside of {images}")
