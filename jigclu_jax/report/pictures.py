"""Pictures of what the network sees: montages with their labels, and patches before and after augmentation."""

import colorsys
import io
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

BACKGROUND: Colour = (250, 250, 248)
_INK: Colour = (40, 40, 44)
_CELL = 184  # least side of a drawn cell: "image 255 · position 3" fits at the font's size
_FONT = 15
_GAP = 20
_NEIGHBOUR = 128  # longer side of an image and its neighbours
# As far apart as a dozen colours can be, strong ones first
_PALETTE: tuple[Colour, ...] = (
    (230, 25, 75),
    (67, 99, 216),
    (60, 180, 75),
    (245, 130, 49),
    (145, 30, 180),
    (66, 212, 244),
    (255, 225, 25),
    (240, 50, 230),
    (0, 128, 128),
    (191, 239, 69),
    (154, 99, 36),
    (220, 190, 255),
)


def cluster_colours(clusters: Int32[np.ndarray, "..."]) -> dict[int, Colour]:
    """A colour of its own for every id; the ids that occur most get the colours that are easiest to tell apart."""
    counts = Counter(int(cluster) for cluster in clusters.reshape(-1))
    ranked = sorted(counts, key=lambda cluster: (-counts[cluster], cluster))
    return {cluster: _colour(rank) for rank, cluster in enumerate(ranked)}


def related_montages(cluster: Int32[np.ndarray, "n m m"], count: int) -> list[int]:
    """Indices of `count` montages, in order, that share images: a few of a large batch show little if taken at random.

    Starts with montage 0 and takes next the one that has most patches of images already shown, the first on a tie.
    """
    chosen = [0]
    shown = set(cluster[0].reshape(-1).tolist())
    rest = list(range(1, len(cluster)))
    while rest and len(chosen) < count:
        best = max(rest, key=lambda index: (sum(patch in shown for patch in cluster[index].reshape(-1).tolist()), -index))
        rest.remove(best)
        chosen.append(best)
        shown.update(cluster[best].reshape(-1).tolist())
    return sorted(chosen[:count])


def draw_montage(
    image: UInt8[np.ndarray, "S S 3"],
    cluster: Int32[np.ndarray, "m m"],
    location: Int32[np.ndarray, "m m"],
    colours: Mapping[int, Colour] | None = None,
) -> Image.Image:
    """One montage, enlarged by a whole factor where its cells are small; every cell is outlined and says its labels.

    `cluster` and `location` are label grids [row, column] of the montage's cells; `colours` maps a cluster to its
    colour (default: `cluster_colours` of this montage). The picture's side is S times the factor.
    """
    grid = len(cluster)
    colours = cluster_colours(cluster) if colours is None else colours
    side = image.shape[0] // grid
    factor = -(-_CELL // side)
    picture = _enlarged(image, factor)
    draw = ImageDraw.Draw(picture)
    for row in range(grid):
        for column in range(grid):
            left, top = column * side * factor, row * side * factor
            box = (left, top, left + side * factor, top + side * factor)
            colour = colours[int(cluster[row, column])]
            _outline(draw, box, colour)
            _tag(draw, box, f"image {cluster[row, column]} · position {location[row, column]}", colour)
    return picture


def montage_sheet(
    image: UInt8[np.ndarray, "n S S 3"],
    cluster: Int32[np.ndarray, "n m m"],
    location: Int32[np.ndarray, "n m m"],
    *,
    count: int = 6,
    columns: int = 3,
) -> Image.Image:
    """Several montages of a batch that share images, side by side: one image's patches have one colour throughout."""
    chosen = related_montages(cluster, count)
    colours = cluster_colours(cluster[chosen])
    pictures = [draw_montage(image[index], cluster[index], location[index], colours) for index in chosen]
    return sheet(pictures, [f"montage {index}" for index in chosen], columns=columns)


def patches_sheet(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Int32[np.ndarray, "k 4"],
    augmented: UInt8[np.ndarray, "k p p 3"],
) -> Image.Image:
    """One image with its m x m overlapping boxes, the plain crops, and the patches that the network gets.

    `boxes` are (left, top, right, bottom) in pixels in location order (location = column * m + row), `augmented` is
    in the same order. The colour is the location's.
    """
    grid = round(len(boxes) ** 0.5)
    height, width = image.shape[:2]
    cell = augmented.shape[1] * -(-_CELL // augmented.shape[1])  # side of a patch as it is drawn
    # the image as high as the patches beside it, unless it is much wider than high
    original = _fitted(image, (2 * grid * cell, grid * cell + 8 * (grid - 1)))
    scale = original.width / width, original.height / height
    draw = ImageDraw.Draw(original)
    scaled = [tuple(round(edge * scale[side % 2]) for side, edge in enumerate(box)) for box in boxes.tolist()]
    for location, box in enumerate(scaled):
        _outline(draw, _inset(box, 5 * (location % 2 + location // grid % 2)), _colour(location))  # overlapping edges stay visible
    for location, box in enumerate(scaled):
        column, row = divmod(location, grid)
        spread = max(grid - 1, 1)
        label = f"position {location}" if grid == 2 else str(location)  # more than four long labels would hide the image
        _tag(draw, box, label, _colour(location), (column / spread, row / spread))
    crops: list[Image.Image] = []
    patches: list[Image.Image] = []
    for location, (left, top, right, bottom) in enumerate(boxes.tolist()):
        crop = _fitted(image[top:bottom, left:right], (cell, cell))
        patch = _enlarged(augmented[location], cell // augmented.shape[1])
        for picture, pictures in ((crop, crops), (patch, patches)):
            whole = (0, 0, picture.width, picture.height)
            _outline(ImageDraw.Draw(picture), whole, _colour(location))
            _tag(ImageDraw.Draw(picture), whole, f"position {location}", _colour(location))
            pictures.append(picture)
    # in the order of the image's cells, row by row, as the eye reads
    order = [column * grid + row for row in range(grid) for column in range(grid)]
    return sheet(
        [
            original,
            sheet([crops[location] for location in order], columns=grid, gap=8, margin=0),
            sheet([patches[location] for location in order], columns=grid, gap=8, margin=0),
        ],
        [f"image, {width} by {height} pixels", "crops", f"augmented patches, {augmented.shape[1]} pixels"],
        columns=3,
    )


def places_sheet(places: Mapping[str, UInt8[np.ndarray, "k p p 3"]]) -> Image.Image:
    """The same patches as they come out of each place that can make them, a row a place, with its mean difference from the first."""
    rows, captions = [], []
    first = next(iter(places))
    for name, patches in places.items():
        apart = np.abs(patches.astype(float) - places[first]).mean()
        captions.append(f"augment={name}" + (f", {apart:.2g} of 255 from {first}" if name != first else ""))
        factor = max(_CELL // patches.shape[1], 1)
        rows.append(sheet([_enlarged(patch, factor) for patch in patches], columns=len(patches), gap=8, margin=0))
    return sheet(rows, captions, columns=1)


def neighbours_sheet(
    queries: Sequence[np.ndarray],
    neighbours: Sequence[Sequence[np.ndarray]],
    right: Sequence[Sequence[bool]],
    names: Sequence[Sequence[str]],
) -> Image.Image:
    """Images uint8[h, w, 3], each with its neighbours in a row, outlined by whether the class is the same.

    `names` holds a row's class names, that of the query first.
    """
    pictures: list[Image.Image] = []
    captions: list[str] = []
    for query, found, same, called in zip(queries, neighbours, right, names, strict=True):
        for place, image in enumerate([query, *found]):
            picture = _fitted(image, (_NEIGHBOUR, _NEIGHBOUR))
            if place:
                draw = ImageDraw.Draw(picture)
                _outline(draw, (0, 0, *picture.size), _PALETTE[2] if same[place - 1] else _PALETTE[0])
            pictures.append(picture)
            captions.append(called[place][:16])
    return sheet(pictures, captions, columns=1 + len(neighbours[0]), gap=10)


def sheet(
    pictures: Sequence[Image.Image], captions: Sequence[str] = (), *, columns: int = 3, gap: int = _GAP, margin: int = _GAP
) -> Image.Image:
    """Pictures on a light ground in rows, each with its caption beneath; `gap` and `margin` in pixels."""
    columns = min(columns, len(pictures))
    caption = 2 * _FONT if captions else 0
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    widths = [max(row[column].width for row in rows if column < len(row)) for column in range(columns)]
    heights = [max(picture.height for picture in row) + caption for row in rows]
    size = (sum(widths) + gap * (columns - 1) + 2 * margin, sum(heights) + gap * (len(rows) - 1) + 2 * margin)
    whole = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(whole)
    top = margin
    for number, row in enumerate(rows):
        left = margin
        for column, picture in enumerate(row):
            whole.paste(picture, (left, top))
            if captions:
                text = captions[number * columns + column]
                draw.text((left, top + picture.height + _FONT // 2), text, fill=_INK, font=_font(_FONT))
            left += widths[column] + gap
        top += heights[number] + gap
    return whole


def as_png(picture: Image.Image) -> bytes:
    """The picture as the content of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _colour(rank: int) -> Colour:
    if rank < len(_PALETTE):
        return _PALETTE[rank]
    # beyond a dozen: hues by the golden ratio, three shades in turn
    red, green, blue = colorsys.hls_to_rgb(rank * 0.61803398875 % 1.0, (0.45, 0.65, 0.3)[rank % 3], 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


def _enlarged(image: np.ndarray, factor: int) -> Image.Image:
    # repeated, not interpolated: what is shown are the network's own pixels
    return Image.fromarray(np.repeat(np.repeat(image, factor, 0), factor, 1))


def _fitted(image: np.ndarray, within: tuple[int, int]) -> Image.Image:
    height, width = image.shape[:2]
    scale = min(within[0] / width, within[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)


def _inset(box: Sequence[int], by: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    by = max(0, min(by, (right - left) // 2 - 1, (bottom - top) // 2 - 1))
    return left + by, top + by, right - by, bottom - by


def _outline(draw: ImageDraw.ImageDraw, box: Sequence[int], colour: Colour) -> None:
    left, top, right, bottom = box
    draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=4)
    if right - left > 10 and bottom - top > 10:  # a dark hairline parts the outline from content of the same colour
        draw.rectangle((left + 4, top + 4, right - 5, bottom - 5), outline=(20, 20, 20), width=1)


def _tag(draw: ImageDraw.ImageDraw, box: Sequence[int], text: str, colour: Colour, place: tuple[float, float] = (0.0, 0.0)) -> None:
    """Text on a solid ground of the colour, so that it is legible on any content; `place` 0..1 within the box."""
    left, top, right, bottom = box
    size = _FONT
    while size > 8 and draw.textlength(text, font=_font(size)) + 12 > right - left:
        size -= 1
    width, height = round(draw.textlength(text, font=_font(size))) + 12, size + 8
    x = round(left + place[0] * max(0, right - left - width))
    y = round(top + place[1] * max(0, bottom - top - height))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    # relative luminance (Rec. 709) decides between black and white ink
    light = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2] > 130
    draw.text((x + 6, y + height // 2), text, fill=(0, 0, 0) if light else (255, 255, 255), font=_font(size), anchor="lm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


__all__ = [
    "as_png",
    "cluster_colours",
    "draw_montage",
    "montage_sheet",
    "neighbours_sheet",
    "patches_sheet",
    "related_montages",
    "sheet",
]
