"""Reads the images of a source; one that cannot be used stops the run or is replaced."""

import numpy as np
from jaxtyping import UInt8

from jigclu_jax.config.fields import check_values
from jigclu_jax.config.schema import SOURCE
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.errors import ImageError, UnknownWhite, UserError, counted


class ImageReader:
    """Reads images of a source; one that cannot be used stops the run or, with on_error "skip", gives way to the next usable one."""

    def __init__(self, source: Source, min_side: int, on_error: str, section: str) -> None:
        check_values({"on_error": on_error}, {"on_error": SOURCE["on_error"]}, f"{section}.")
        self._section = section
        self.source, self.min_side, self._skip = source, min_side, on_error == "skip"
        self.skipped: dict[int, str] = {}

    def __call__(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
        """(RGB image, index it was read from); ImageError, or UserError where no image of the source can be used.

        UnknownWhite is raised whatever on_error says: the image is sound.
        """
        n = len(self.source)
        for ahead in range(n):
            candidate = (index + ahead) % n
            if candidate in self.skipped:
                continue
            try:
                return self._read(candidate), candidate
            except UnknownWhite:
                raise
            except ImageError as error:
                if not self._skip:
                    raise self._advised(error) from error
                self.skipped[candidate] = str(error)
        raise UserError(f"of {counted(n, 'image')} of {self.source.name} none can be used; the first: {self.skipped[0]}")

    def _advised(self, error: ImageError) -> ImageError:
        """The error with what to do about it; sources know nothing of fields."""
        if "on_error" in str(error):
            return error
        return ImageError(f"{error}: {error.remedy}, or set {self._section}.on_error=skip to leave such images out")

    def _read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        image = self.source.read(index)
        height, width = image.shape[:2]
        if min(height, width) < self.min_side:
            raise ImageError(
                f"{self.source.describe(index)}: {width} x {height} pixels, but the smaller side must have {self.min_side}:"
                f" set {self._section}.min_side=1 to enlarge small images, or {self._section}.on_error=skip to leave them out"
            )
        return image
