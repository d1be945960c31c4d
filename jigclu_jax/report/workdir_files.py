"""What a workdir holds for its report: config, result, metrics, pictures; and the blocks that every report shares."""

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath
from PIL import Image

from jigclu_jax import atomic_file
from jigclu_jax.report import curves
from jigclu_jax.report.page import Block, Cell, Config, Figure, Gallery, Section, Table
from jigclu_jax.report.pictures import as_png
from jigclu_jax.train.progress import duration
from jigclu_jax.train.writers import read_metrics

PICTURES_FOLDER = "pictures"
REPORT_FILE = "report.html"
_CAPTIONS = {
    "montages": "Montages as the network sees them, each enlarged by a whole factor. Every cell is outlined in the colour of the"
    " image that it was cut from, so patches of one colour belong together; the position is the patch's place in that image"
    " (column by column, from the top).",
    "patches": "One image: the overlapping boxes, the plain crops, and the patches after augmentation.",
    "places": "The patches of that image with the same random numbers, made in each of the three places that data.augment can name (host is"
    " missing where TensorFlow is). Below each row: the mean difference from the first.",
}
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "tensorflow", "tensorflow-cpu")


@dataclass(frozen=True)
class Run:
    """The files of one workdir; what is not there is empty."""

    config: Mapping[str, Any]
    result: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    pictures: Mapping[str, bytes]  # name -> PNG


def read_run(workdir: epath.PathLike) -> Run:
    """Reads config.json, result.json, metrics.jsonl and pictures/*.png; a run that is not finished has no result."""
    root = epath.Path(workdir)
    folder = root / PICTURES_FOLDER
    found = sorted(path for path in folder.iterdir() if path.suffix == ".png" and path.name[0] != ".") if folder.exists() else []
    return Run(
        _json(root / "config.json"), _json(root / "result.json"), read_metrics(root), {path.stem: path.read_bytes() for path in found}
    )


def save_picture(workdir: epath.PathLike, name: str, picture: Image.Image) -> None:
    """Keeps a picture as `DIR/pictures/NAME.png`, from where the report takes it; "montages", "patches" and "places" have captions."""
    atomic_file.write_bytes(epath.Path(workdir) / PICTURES_FOLDER / f"{name}.png", as_png(picture))


def picture_blocks(run: Run) -> list[Block]:
    """The run's pictures, each with its caption."""
    return [Figure(png, _CAPTIONS.get(name, name.replace("_", " "))) for name, png in run.pictures.items()]


def curve_blocks(rows: Sequence[Mapping[str, Any]], panels: Sequence[curves.Panel]) -> list[Block]:
    """A gallery of the panels that have data, [] where none has."""
    drawn = curves.draw_curves(rows, panels)
    return [Gallery([Figure(svg, alt=f"{title} over the run") for title, svg in drawn])] if drawn else []


def last_value(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The last finite value that was logged of a metric, None where there is none."""
    return next((row[name] for row in reversed(rows) if row.get(name) is not None), None)


def run_rows(run: Run) -> list[tuple[Cell, ...]]:
    """How the run went: seconds, speed, seed, version; rows of a table."""
    result = run.result
    rows: list[tuple[Cell, ...]] = []
    if run.rows:
        last = run.rows[-1]
        rows.append(("last logged step", str(last["step"])))
        if last.get("epoch") is not None:
            rows.append(("epochs", f"{last['epoch']:.4g} of {run.config.get('epochs', '?')}"))
    if result.get("seconds") is not None:
        rows.append(("time", duration(result["seconds"])))
    if result.get("images_per_second") is not None:
        rows.append(("images per second", f"{result['images_per_second']:,.0f}"))
    for name in ("seed", "version", "commit"):
        if result.get(name) is not None:
            rows.append((name, str(result[name])))
    return rows


def setting_section(run: Run, others: Mapping[str, Mapping[str, Any]] | None = None) -> Section:
    """Configurations, and the versions of what the report was made with."""
    blocks: list[Block] = [Config("Configuration", run.config)] if run.config else []
    blocks += [Config(title, tree) for title, tree in (others or {}).items() if tree]
    return Section("Setting", [*blocks, Table(("package", "version"), list(versions().items()))])


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries, found without importing them."""
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def footer() -> str:
    """The page's last line: what made it, when, on what machine."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"jigclu_jax, {now}, {platform.system()} {platform.machine()}"


def _json(path: epath.Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


__all__ = [
    "REPORT_FILE",
    "Run",
    "curve_blocks",
    "footer",
    "last_value",
    "picture_blocks",
    "read_run",
    "run_rows",
    "save_picture",
    "setting_section",
    "versions",
]
