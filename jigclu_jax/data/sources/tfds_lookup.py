"""Finds a prepared TFDS data set, its split and its image and label features; says in one line why not."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.data.sources.tfds_records import INSTALL, FileInstruction
from jigclu_jax.errors import UserError, one_line


def find_builder(name: str, data_dir: str) -> Any:
    """The read-only builder of a data set that is prepared in `data_dir` ("": TFDS's default).

    Works from the files alone: the data set's own code, which could ask the network, does not run. Raises UserError for a
    missing folder, a name that nobody knows (with the nearest) and a data set that is not prepared (with the command).
    """
    try:
        from tensorflow_datasets.core import read_only_builder, registered
        from tensorflow_datasets.core.utils import file_utils
    except ImportError as error:
        raise UserError(f"source 'tfds' needs a package that is not installed ({error.name}): {INSTALL}") from error
    roots = [epath.Path(path).expanduser() for path in file_utils.list_data_dirs(data_dir or None)]
    if data_dir and not roots[0].is_dir():
        raise UserError(f"{data_dir}: no such folder: set data_dir to the folder where TFDS data sets were prepared")
    try:
        if data_dir and (roots[0] / "dataset_info.json").exists():
            return read_only_builder.builder_from_directory(roots[0])
        if not name:
            raise UserError("name='': source 'tfds' needs name, such as 'cifar10' or 'imagenet2012:5.1.0'")
        return read_only_builder.builder_from_files(name, data_dir=str(roots[0]) if data_dir else None)
    except registered.DatasetNotFoundError:
        raise UserError(_not_found(name, roots, data_dir)) from None
    except UserError:
        raise
    except Exception as error:  # damaged metadata: JSON and protobuf errors; remote file systems: anything
        if "builder name string" in str(error):
            raise UserError(f"name={name!r}: not of the form 'name', 'name:1.0.0', 'name/config' or 'name/config:1.0.0'") from None
        raise UserError(f"{name or data_dir}: TFDS cannot open it: {one_line(error)}") from error


def prepare_command(name: str, data_dir: str) -> str:
    """The command with which a person downloads and prepares `name`."""
    place = f", data_dir={data_dir!r}" if data_dir else ""
    builder = f"tfds.builder({name!r}{place}, file_format='array_record')"
    return f'run python -c "import tensorflow_datasets as tfds; {builder}.download_and_prepare()"'


def find_split(info: Any, split: str, name: str) -> list[FileInstruction]:
    """The parts of files that are `split`, TFDS's arithmetic on split names included; raises UserError."""
    there = list(info.splits)
    listed = ", ".join(map(repr, there)) or "none"
    for part in split.split("+"):
        base = part.split("[")[0].strip()
        if base in there or base == "all":
            continue
        near = difflib.get_close_matches(base, there, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"{name}: no split {base!r}: {hint}there are {listed}")
    try:
        instructions = list(info.splits[split].file_instructions)
    except (ValueError, KeyError, AssertionError) as error:
        raise UserError(f"{name}: split={split!r} is not understood: write it like 'train[:10%]' or 'train[500:]+{there[-1]}'") from error
    if not sum(part.take for part in instructions):
        raise UserError(f"{name}: split={split!r} has no examples: there are {listed}")
    return [part for part in instructions if part.take]


def find_features(info: Any, name: str) -> tuple[Mapping[str, Any], str, str | None]:
    """All features by their path ("a/b" for nested ones), the key of the image and the key of the label or None.

    The image is the input of the supervised pair, else "image", else the first in alphabetical order; the label likewise,
    among ClassLabel features. Raises UserError for a data set without images.
    """
    features = _flat(info.features)
    image = _choose(features, _supervised(info, 0), "image", is_encoded_image)
    if image is None:
        image = _choose(features, _supervised(info, 0), "image", _is_raw_image)
    if image is None:
        kinds = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
        raise UserError(f"{name}: no uint8 image among its features ({kinds}): use a data set of images")
    return features, image, _choose(features, _supervised(info, 1), "label", _is_class_label)


def is_encoded_image(feature: Any) -> bool:
    """Whether the records hold `feature` as the bytes of an image file."""
    import tensorflow_datasets as tfds

    if not isinstance(feature, tfds.features.Image) or isinstance(feature, tfds.features.LabeledImage):
        return False  # a LabeledImage is a segmentation mask
    return bool(feature.np_dtype != "float32")  # whose PNG holds bit patterns


def is_text(feature: Any) -> bool:
    """Whether the records hold `feature` as a string."""
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Text)


def _is_raw_image(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if type(feature) is not tfds.features.Tensor or feature.np_dtype != "uint8":
        return False
    return len(feature.shape) == 3 and None not in feature.shape and feature.shape[2] in (1, 3)


def _is_class_label(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.ClassLabel) and bool(feature.num_classes)


def _flat(features: Any, prefix: str = "") -> dict[str, Any]:
    import tensorflow_datasets as tfds

    flat: dict[str, Any] = {}
    for key, feature in sorted(features.items()):
        if isinstance(feature, tfds.features.FeaturesDict):
            flat.update(_flat(feature, f"{prefix}{key}/"))
        else:
            flat[prefix + key] = feature
    return flat


def _supervised(info: Any, place: int) -> str | None:
    keys = info.supervised_keys
    return keys[place] if keys and len(keys) > place and isinstance(keys[place], str) else None


def _choose(features: Mapping[str, Any], supervised: str | None, usual: str, fits: Callable[[Any], bool]) -> str | None:
    fitting = [key for key, feature in features.items() if fits(feature)]
    for key in (supervised, usual):
        if key in fitting:
            return key
    return fitting[0] if fitting else None


def _not_found(name: str, roots: Sequence[epath.Path], data_dir: str) -> str:
    import tensorflow_datasets as tfds

    base = name.split("/")[0].split(":")[0]
    places = ", ".join(str(root) for root in roots)
    prepared = [entry for root in roots for entry in _prepared(root, base)]
    registered = tfds.list_builders(with_community_datasets=False)
    if prepared:
        otherwise = f", or {prepare_command(name, data_dir)}" if base in registered else ""
        return f"{name}: not prepared in {places}, which has {', '.join(prepared)}: set name to one of these{otherwise}"
    if base in registered:
        return f"{name}: not prepared in {places}: set data_dir to where it is, or {prepare_command(name, data_dir)}"
    local = [entry.name for root in roots if root.is_dir() for entry in root.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    near = difflib.get_close_matches(base, [*local, *registered], n=1)
    hint = f": did you mean {near[0]!r}?" if near else ": set data_dir to the folder where it was prepared"
    return f"{name}: no data set of this name in {places}, nor one that TFDS can prepare{hint}"


def _prepared(root: epath.Path, base: str) -> list[str]:
    # base/version or base/config/version
    if not (root / base).is_dir():
        return []
    found = []
    for first in sorted((root / base).iterdir()):
        if (first / "dataset_info.json").exists():
            found.append(f"{base}:{first.name}")
        elif first.is_dir():
            found += [f"{base}/{first.name}:{second.name}" for second in sorted(first.iterdir()) if (second / "dataset_info.json").exists()]
    return found
