"""What a finished or starting job shows a person: pictures of its input, and its page."""

import logging

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.data.preview import preview
from jigclu_jax.data.sources import Source
from jigclu_jax.report.pictures import montage_sheet, patches_sheet
from jigclu_jax.report.pretrain_report import pretrain_page
from jigclu_jax.report.probe_report import probe_page
from jigclu_jax.report.workdir_files import PICTURES_FOLDER, save_picture

_PREVIEWED = 16  # montages of one shuffle group: enough that some share images


def save_pictures(config: ConfigDict, workdir: epath.PathLike, source: Source) -> None:
    """Pictures of montages with their labels, and of the patches of one image before and after augmentation."""
    if not config.log.pictures or config.method != "jigclu" or (epath.Path(workdir) / PICTURES_FOLDER / "montages.png").exists():
        return
    batch, stages = preview(source, config.data, config.augment, seed=config.seed, count=_PREVIEWED)
    save_picture(workdir, "patches", patches_sheet(stages[0].image, stages[0].cells, stages[0].patches))
    save_picture(workdir, "montages", montage_sheet(batch["image"], batch["cluster"], batch["location"]))


def report_pretraining(config: ConfigDict, workdir: epath.PathLike, source: Source) -> None:
    """Write `report.html` of a pretraining run."""
    path = pretrain_page(workdir, classes=len(source.classes or ()) if config.method == "supervised" else 0)
    logging.info("report: %s", path)


def report_probe(workdir: epath.PathLike, classes: int) -> None:
    """Write `report.html` of a probe."""
    logging.info("report: %s", probe_page(workdir, classes=classes))
