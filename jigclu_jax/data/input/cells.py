"""Reading a few images, cutting their patches and writing each into its cell of its montage: what a thread or a process does at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, UInt8
from ml_collections import ConfigDict

from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.data.augment.crops import cut, resizer
from jigclu_jax.data.augment.parameters import PACKED, draw_many
from jigclu_jax.data.input.plan import Plan
from jigclu_jax.data.sources.reader import ImageReader


@dataclass(frozen=True)
class CellMaker:
    """Makes cells of montages from images, without colour, blur and flip; can be pickled where its source can.

    Attributes:
      reader: opens the images.
      augment: the laws of the parameters, fields of `config.augment`.
      plan: sizes.
      seed: of the run.
    """

    reader: ImageReader
    augment: ConfigDict
    plan: Plan
    seed: int

    def __call__(
        self,
        montages: UInt8[np.ndarray, "b S S 3"],
        packed: Float32[np.ndarray, "b m m 12"],
        epoch: int,
        examples: Sequence[int],
        cells: Int[np.ndarray, "c k"],
    ) -> list[int]:
        """Write the k patches of each of c images into the cells (numbered through the batch) and their `Draws.pack()` beside them.

        Returns the numbers of the images that were read: others than `examples` where one gave way to the next. Raises ImageError.
        """
        plan, side, resize = self.plan, self.plan.side, resizer()
        read = [self.reader(example) for example in examples]
        boxes = [patch_boxes(image.shape[1], image.shape[0], plan.grid, plan.overlap) for image, _ in read]
        # keyed by the example that stood here, so that a replacement is not the copy of its own appearance in the epoch
        draws = draw_many(self.augment, self.seed, epoch, examples, boxes)
        packed.reshape(-1, PACKED)[cells.reshape(-1)] = draws.pack()
        k = plan.grid * plan.grid
        for number, ((image, _), places) in enumerate(zip(read, cells.tolist(), strict=True)):
            for box, place in zip(draws.box[number * k : (number + 1) * k].tolist(), places, strict=True):
                montage, cell = divmod(place, k)
                row, column = divmod(cell, plan.grid)
                target = montages[montage, row * side : (row + 1) * side, column * side : (column + 1) * side]
                target[:] = resize(cut(image, box), side)
        return [used for _, used in read]
