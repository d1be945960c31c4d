"""Sizes that follow from a configuration, checked before a pipeline is built."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from jigclu_jax.data.augment.boxes import check_overlap, patch_side
from jigclu_jax.data.augment.parameters import check_augment
from jigclu_jax.data.input import montage
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.errors import UserError

_CHUNK_PIXELS = 1 << 19  # of the montages that one Python call makes: few calls, and enough of them for the threads


@dataclass(frozen=True)
class Plan:
    """Sizes that follow from a configuration, in patches (grid), pixels (side, min_side) and images (group, share of a host, chunk)."""

    grid: int
    side: int
    overlap: float
    min_side: int
    group: int
    share: int

    @property
    def chunk(self) -> int:
        """Images that are read, cut and coloured in one call: a divisor of the group."""
        images = max(_CHUNK_PIXELS // (self.grid * self.side) ** 2, 1)
        return max(d for d in range(1, min(self.group, images) + 1) if self.group % d == 0)


def plan_for(
    source: Source, data: ConfigDict, augment: ConfigDict, view: str, batch_size: int, steps_per_epoch: int, host: int, hosts: int
) -> Plan:
    """The plan of a run; UserError for a configuration that cannot work, ValueError for a view that no method has."""
    check_hosts(batch_size, host, hosts)
    check_augment(augment)
    if data.threads < 0:
        raise UserError(f"data.threads={data.threads} is negative: set it to 0 (chosen by tf.data) or to a number of threads")
    if data.workers and data.augment != "device":
        raise UserError(
            f"data.workers={data.workers}: processes make pictures for data.augment=device, this is {data.augment!r}: set it to 0"
        )
    n, share = len(source), batch_size // hosts
    most = n // batch_size if view == "montage" else -(-n // batch_size)
    if not 1 <= steps_per_epoch <= most:
        raise UserError(f"{steps_per_epoch} steps of {batch_size} images an epoch do not fit a data set of {n} images")
    if view == "montage":
        grid, overlap = data.get("grid", 2), data.get("overlap", 0.3)
        if grid < 2:
            raise UserError(f"method.grid={grid} makes no montage: set it to 2 or more")
        check_overlap(grid, overlap)
        side = patch_side(data.image_size, grid)
        group = montage.shuffle_group(data.get("shuffle_group", 0), batch_size, hosts)
        return Plan(grid, side, overlap, side if data.min_side < 0 else max(data.min_side, 1), group, share)
    if view == "crop":
        side = patch_side(data.image_size, 1)
        return Plan(1, side, 0.0, max(data.min_side, 1), share, share)
    raise ValueError(f"view is {view!r}, not 'montage' or 'crop'")


def with_layout(config: ConfigDict) -> ConfigDict:
    """`config.data`, and how the method lays its montages out."""
    layout = {name: config.method[name] for name in ("grid", "overlap", "shuffle_group") if name in config.method}
    return ConfigDict(config.data.to_dict() | layout)


def check_hosts(batch_size: int, host: int, hosts: int) -> None:
    """UserError for a global batch that the hosts cannot share evenly."""
    if batch_size < 1 or batch_size % hosts:
        raise UserError(f"batch_size={batch_size} does not divide among {hosts} hosts: set it to a multiple of {hosts}")
    if not 0 <= host < hosts:
        raise ValueError(f"host {host} of {hosts}")
