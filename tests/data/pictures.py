"""Images for the tests of the pipeline: natural-looking ones, and ones whose patches say where they came from."""

import numpy as np
from PIL import Image


def natural(height: int, width: int, seed: int) -> np.ndarray:
    """uint8[height, width, 3]: smooth colours, hard edges, fine texture and saturated spots, as a photograph has them."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float64)
    for cells, weight in ((3, 110), (9, 60), (40, 30)):
        coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        image += weight / 128 * (np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) - 128.0)
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(4):
        cx, cy, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.05, 0.3) * min(height, width)
        image[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] += rng.uniform(-150, 150, 3)
    angle = rng.uniform(0, np.pi)
    image += 25 * (np.sin((x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.3, 1.5)) > 0)[..., None]
    return np.clip(image + 128 + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def coded(index: int, grid: int, height: int, width: int) -> np.ndarray:
    """uint8[height, width, 3]: red tells the image, green the column and blue the row of each plain grid cell (20 a step)."""
    columns = np.minimum(np.arange(width) * grid // width, grid - 1)
    rows = np.minimum(np.arange(height) * grid // height, grid - 1)
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = index
    image[..., 1] = 20 * columns[None, :]
    image[..., 2] = 20 * rows[:, None]
    return image
