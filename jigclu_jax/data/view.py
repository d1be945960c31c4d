"""View: what a method wants to see of each image."""

import dataclasses

from jigclu_jax.data.augment.boxes import check_overlap
from jigclu_jax.data.augment.law import Law
from jigclu_jax.errors import UserError, counted


@dataclasses.dataclass(frozen=True)
class View:
    """Crops of every image, as single pictures or pasted into montages.

    An image is divided into grid x grid regions, location = column * grid + row; crop number `position` of the k = grid * grid * repeats
    crops is taken from region position % (grid * grid). Pictures of a batch of b images: single uint8[b, k, side, side, 3]; montages of
    m x m cells uint8[b * k / m^2, m * side, m * side, 3], after the crops of `group` consecutive images were shuffled together.

    Attributes:
      name: key of its arrays in a batch; another one for each view of a method.
      side: of a crop, in pixels.
      law: how it is augmented.
      grid: regions along each side of the image; 1: the whole image.
      overlap: how far regions reach into their neighbours (`data/augment/boxes.py`).
      repeats: crops of each region.
      montage: m, cells along each side of a montage; 0: single pictures.
      group: images whose crops are shuffled together; 0: the whole batch up to 256.
      mirrored: of montages, the location of a flipped crop is that of its region in the mirrored image: left and right can be told apart.
      frame: what is done to the image once, before its regions are cut: crop, mirroring, grayscale (no other operation). Regions and the
        crops of `law` are then those of the frame as a square: a crop's aspect is relative to its region's. None: nothing.
    """

    name: str
    side: int
    law: Law
    grid: int = 1
    overlap: float = 0.0
    repeats: int = 1
    montage: int = 0
    group: int = 0
    mirrored: bool = False
    frame: Law | None = None

    @property
    def colours(self) -> Law:
        """`law` with grayscale where the frame has it: whatever may happen to the colours of a crop."""
        if self.frame is None:
            return self.law
        return dataclasses.replace(self.law, grayscale_probability=max(self.law.grayscale_probability, self.frame.grayscale_probability))

    @property
    def crops(self) -> int:
        """k, crops an image."""
        return self.grid * self.grid * self.repeats

    @property
    def picture_side(self) -> int:
        """Of a picture in pixels: a single crop, or a montage."""
        return self.side * max(self.montage, 1)

    def pictures(self, images: int) -> int:
        """Pictures, the first axis of the view's arrays, that so many images make.

        Raises:
          UserError: their crops do not fill whole montages.
        """
        if not self.montage:
            return images
        count, rest = divmod(images * self.crops, self.montage * self.montage)
        if rest:
            raise UserError(
                f"view {self.name!r}: {counted(images, 'image')} make {counted(images * self.crops, 'crop')}, which fill"
                f" no whole number of montages of {self.montage} x {self.montage}: use another batch_size"
            )
        return count

    def check(self) -> None:
        """Refuse sizes that cannot be; UserError names the field."""
        if self.side < 1:
            raise UserError(f"view {self.name!r}: crops of {self.side} pixels: set data.image_size to more")
        if self.grid > 1:
            check_overlap(self.grid, self.overlap)
        frame = self.frame
        if frame and (self.mirrored or frame.jitters or frame.largest_sigma or frame.solarize_probability):
            raise UserError(f"view {self.name!r}: a frame is cropped, mirrored and made gray, nothing else, and leaves `mirrored` alone")


def shape_of(view: View, images: int) -> tuple[int, ...]:
    """Shape of the pictures, uint8, that so many images make."""
    side = view.picture_side
    return (view.pictures(images), *(() if view.montage else (view.crops,)), side, side, 3)


def tile_view(name: str, side: int, law: Law, frame: Law, *, grid: int = 3, gap: float = 0.25) -> View:
    """The tiles of a jigsaw puzzle: one crop of side x side pixels of each of the grid x grid cells of the frame, never at the cell's edge.

    A crop is 1 - `gap` of its cell along each side, at a random place, so that no line goes on from tile to tile (Noroozi and Favaro 2016:
    64 of 75 pixels; Goyal et al. 2019: 64 of 85). Colours, blur and flip of each tile are those of `law`, its crop is not.
    """
    share = (1 - gap) ** 2
    return View(name, side, dataclasses.replace(law, crop_area=(share, share), crop_aspect=(1.0, 1.0)), grid, frame=frame)
