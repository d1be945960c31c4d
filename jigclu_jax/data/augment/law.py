"""The law of an augmentation: which operations a crop goes through, how likely each is and how strong."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from jigclu_jax.config.fields import check_values
from jigclu_jax.config.schema import AUGMENT
from jigclu_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Law:
    """The fields of `config.augment`; operations act in the order crop, flip, jitter, grayscale, blur, solarize.

    Laws are torchvision's (RandomResizedCrop, ColorJitter, GaussianBlur as the MoCo v2 recipe uses them, Pillow's solarize as BYOL's),
    on which the authors' code rests. Hashable: an operation whose probability or strength is 0 is left out of the compiled program.

    Attributes:
      crop_area: smallest and largest area of the crop, as shares of its region.
      crop_aspect: smallest and largest width / height, drawn log-uniformly.
      jitter_probability: of all four colour operations together, in random order.
      brightness, contrast, saturation: a factor is drawn from 1 -+ this.
      hue: a shift is drawn from -+ this, in turns of the colour circle.
      grayscale_probability, blur_probability, solarize_probability, flip_probability: of each.
      blur_sigma: smallest and largest standard deviation, in pixels of the resized crop.
      solarize_threshold: values from it on are inverted, 0..255.
    """

    crop_area: tuple[float, float] = (0.2, 1.0)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    jitter_probability: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale_probability: float = 0.0
    blur_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_probability: float = 0.0
    solarize_threshold: int = 128
    flip_probability: float = 0.0

    @classmethod
    def of(cls, config: ConfigDict) -> "Law":
        """The law that `config.augment` describes.

        Raises:
          UserError: a probability outside of [0, 1], a negative strength, or a range that is none.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for name in names & set(config):
            values[name] = tuple(config[name]) if isinstance(config[name], tuple | list) else config[name]
        law = cls(**values)
        law._check()
        return law

    @property
    def jitters(self) -> bool:
        """Whether colours are ever changed."""
        return self.jitter_probability > 0 and max(self.brightness, self.contrast, self.saturation, self.hue) > 0

    @property
    def largest_sigma(self) -> float:
        """Of the blur, in pixels; 0 where nothing is ever blurred."""
        return float(self.blur_sigma[1]) if self.blur_probability > 0 else 0.0

    @property
    def colours(self) -> bool:
        """Whether anything but crop and flip is ever done."""
        return self.jitters or self.grayscale_probability > 0 or self.largest_sigma > 0 or self.solarize_probability > 0

    def _check(self) -> None:
        check_values(vars(self), {field.name: AUGMENT[field.name] for field in dataclasses.fields(self)}, "augment.")
        for name in ("crop_area", "crop_aspect", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise UserError(f"augment.{name}={low, high} is not a range (low, high)")
