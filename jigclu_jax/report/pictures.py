"""Pictures of what the network sees: montages with their labels, patches before and after augmentation, nearest neighbours.

They are SVG drawings around the images' own pixels: text is set in the reader's fonts, which have every script, and in the ink of a light
or dark page.
"""

import base64
import colorsys
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

INK = "<style>svg{color:#26262b}@media(prefers-color-scheme:dark){svg{color:#d9d9de}}</style>"
_CELL = 184  # least side of a drawn cell: "image 255 · position 3" fits at the font's size
_FONT = 15
_GAP = 20
_NEIGHBOUR = 128  # longer side of an image and its neighbours
# As far apart as a dozen colours can be, strong ones first
_PALETTE = (
    *("#e6194b", "#4363d8", "#3cb44b", "#f58231", "#911eb4", "#42d4f4"),
    *("#ffe119", "#f032e6", "#008080", "#bfef45", "#9a6324", "#dcbeff"),
)
_WRONG, _RIGHT = _PALETTE[0], _PALETTE[2]

Box = tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True)
class Drawing:
    """A piece of SVG and its size in pixels; notebooks show it as it is."""

    width: float
    height: float
    body: str

    @property
    def svg(self) -> str:
        """The drawing as a file of its own."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui,sans-serif">{INK}{self.body}</svg>'

    def _repr_svg_(self) -> str:
        return self.svg

    def at(self, left: float, top: float) -> str:
        """The drawing as a part of another one; what leaves its bounds is cut."""
        return f'<svg x="{left:g}" y="{top:g}" width="{self.width:g}" height="{self.height:g}">{self.body}</svg>'

    def with_parts(self, *parts: str) -> "Drawing":
        """The same with more drawn over it."""
        return Drawing(self.width, self.height, self.body + "".join(parts))


def cluster_colours(clusters: Int32[np.ndarray, "..."]) -> dict[int, str]:
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
    colours: Mapping[int, str] | None = None,
) -> Drawing:
    """One montage, enlarged by a whole factor where its cells are small; every cell is outlined and says its labels.

    `cluster` and `location` are label grids [row, column] of the montage's cells; `colours` maps a cluster to its
    colour (default: `cluster_colours` of this montage). The drawing's side is S times the factor.
    """
    grid = len(cluster)
    colours = cluster_colours(cluster) if colours is None else colours
    side = image.shape[0] // grid * -(-_CELL * grid // image.shape[0])
    parts = []
    for row, column in np.ndindex(grid, grid):
        box, colour = (column * side, row * side, side, side), colours[int(cluster[row, column])]
        parts += [_outline(box, colour), _tag(box, f"image {cluster[row, column]} · position {location[row, column]}", colour)]
    return picture(image, grid * side).with_parts(*parts)


def montage_sheet(
    image: UInt8[np.ndarray, "n S S 3"],
    cluster: Int32[np.ndarray, "n m m"],
    location: Int32[np.ndarray, "n m m"],
    *,
    count: int = 6,
    columns: int = 3,
) -> Drawing:
    """Several montages of a batch that share images, side by side: one image's patches have one colour throughout."""
    chosen = related_montages(cluster, count)
    colours = cluster_colours(cluster[chosen])
    drawn = [draw_montage(image[index], cluster[index], location[index], colours) for index in chosen]
    return sheet(drawn, [f"montage {index}" for index in chosen], columns=columns)


def crops_sheet(views: Sequence[UInt8[np.ndarray, "n _ _ _ 3"]]) -> Drawing:
    """The crops of some images as a method sees them: a row an image, the crops of all views side by side."""
    drawn = [picture(crop, _NEIGHBOUR) for rows in zip(*views, strict=True) for crops in rows for crop in crops]
    return sheet(drawn, columns=sum(view.shape[1] for view in views), gap=8)


def patches_sheet(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Int32[np.ndarray, "k 4"],
    augmented: UInt8[np.ndarray, "k p p 3"],
) -> Drawing:
    """One image with its m x m overlapping boxes, the plain crops, and the patches that the network gets.

    `boxes` are (left, top, right, bottom) in pixels in location order (location = column * m + row), `augmented` is
    in the same order. The colour is the location's.
    """
    grid = math.isqrt(len(boxes))
    height, width = image.shape[:2]
    cell = augmented.shape[1] * -(-_CELL // augmented.shape[1])  # side of a patch as it is drawn
    # the image as high as the patches beside it, unless it is much wider than high
    scale = min(2 * grid * cell / width, (grid * cell + 8 * (grid - 1)) / height)
    outlines: list[str] = []
    tags: list[str] = []
    crops: list[Drawing] = []
    patches: list[Drawing] = []
    for location, (left, top, right, bottom) in enumerate(boxes.tolist()):
        colour, (column, row) = _colour(location), divmod(location, grid)
        box = (scale * left, scale * top, scale * (right - left), scale * (bottom - top))
        outlines.append(_outline(box, colour, 5 * (location % 2 + column % 2)))  # overlapping edges stay visible
        label = f"position {location}" if grid == 2 else str(location)  # more than four long labels would hide the image
        tags.append(_tag(box, label, colour, (column / max(grid - 1, 1), row / max(grid - 1, 1))))
        for pixels, side, drawn in ((image[top:bottom, left:right], cell, crops), (augmented[location], cell, patches)):
            shown = picture(pixels, side)
            whole = (0, 0, shown.width, shown.height)
            drawn.append(shown.with_parts(_outline(whole, colour), _tag(whole, f"position {location}", colour)))
    # in the order of the image's cells, row by row, as the eye reads
    order = [column * grid + row for row in range(grid) for column in range(grid)]
    drawings = [
        picture(image, max(scale * width, scale * height)).with_parts(*outlines, *tags),
        *(sheet([shown[location] for location in order], columns=grid, gap=8, margin=0) for shown in (crops, patches)),
    ]
    captions = [f"image, {width} by {height} pixels", "crops", f"augmented patches, {augmented.shape[1]} pixels"]
    return sheet(drawings, captions, columns=3, least=_CELL)


def places_sheet(places: Mapping[str, UInt8[np.ndarray, "k p p 3"]]) -> Drawing:
    """The same patches as they come out of each place that can make them, a row a place, with its mean difference from the first."""
    rows, captions = [], []
    first = next(iter(places))
    for name, patches in places.items():
        apart = np.abs(patches.astype(float) - places[first]).mean()
        captions.append(f"augment={name}" + (f", {apart:.2g} of 255 from {first}" if name != first else ""))
        side = patches.shape[1] * max(_CELL // patches.shape[1], 1)
        rows.append(sheet([picture(patch, side) for patch in patches], columns=len(patches), gap=8, margin=0))
    return sheet(rows, captions, columns=1)


def neighbours_sheet(
    queries: Sequence[np.ndarray],
    neighbours: Sequence[Sequence[np.ndarray]],
    right: Sequence[Sequence[bool]],
    names: Sequence[Sequence[str]],
) -> Drawing:
    """Images uint8[h, w, 3], each with its neighbours in a row, outlined by whether the class is the same.

    `names` holds a row's class names, that of the query first.
    """
    drawn: list[Drawing] = []
    for query, found, same in zip(queries, neighbours, right, strict=True):
        drawn.append(picture(query, _NEIGHBOUR))
        for image, own in zip(found, same, strict=True):
            shown = picture(image, _NEIGHBOUR)
            drawn.append(shown.with_parts(_outline((0, 0, shown.width, shown.height), _RIGHT if own else _WRONG)))
    captions = [name for called in names for name in called]
    return sheet(drawn, captions, columns=1 + len(neighbours[0]), gap=10, least=_NEIGHBOUR)


def sheet(
    drawings: Sequence[Drawing], captions: Sequence[str] = (), *, columns: int = 3, gap: int = _GAP, margin: int = 0, least: int = 0
) -> Drawing:
    """Drawings in rows, the captions of a row on one line beneath; `gap`, `margin` and a column's `least` width in pixels."""
    columns = min(columns, len(drawings))
    line = 2 * _FONT if captions else 0
    rows = [range(start, min(start + columns, len(drawings))) for start in range(0, len(drawings), columns)]
    widths = [max([least, *(drawing.width for drawing in drawings[column::columns])]) for column in range(columns)]
    parts: list[str] = []
    top = float(margin)
    for row in rows:
        height, left = max(drawings[index].height for index in row), float(margin)
        for column, index in enumerate(row):
            parts.append(drawings[index].at(left, top))
            if captions:
                text = f'<text y="{1.4 * _FONT:g}" font-size="{_FONT}" fill="currentColor">{escape(captions[index])}</text>'
                parts.append(Drawing(widths[column], line, text).at(left, top + height))
            left += widths[column] + gap
        top += height + line + gap
    return Drawing(sum(widths) + gap * (columns - 1) + 2 * margin, top - gap + margin, "".join(parts))


def picture(image: UInt8[np.ndarray, "h w 3"], side: float) -> Drawing:
    """The image with `side` pixels along its longer side; pixels that are enlarged stay squares, since they are what the network sees."""
    height, width = image.shape[:2]
    scale, kept, data = side / max(height, width), Image.fromarray(np.ascontiguousarray(image)), io.BytesIO()
    if scale < 1:  # no pixels of the network's: twice those shown are enough for any screen
        kept.thumbnail((2 * side, 2 * side))
        kept.save(data, kind := "JPEG", quality=88)
    else:
        kept.save(data, kind := "PNG", optimize=True)
    wide, high = (max(1.0, round(length * scale, 2)) for length in (width, height))
    look = f'width="{wide:g}" height="{high:g}" preserveAspectRatio="none"' + (' style="image-rendering:pixelated"' if scale > 1 else "")
    content = base64.b64encode(data.getvalue()).decode()
    return Drawing(wide, high, f'<image {look} href="data:image/{kind.lower()};base64,{content}"/>')


def _colour(rank: int) -> str:
    if rank < len(_PALETTE):
        return _PALETTE[rank]
    # beyond a dozen: hues by the golden ratio, three shades in turn
    shade = colorsys.hls_to_rgb(rank * 0.61803398875 % 1.0, (0.45, 0.65, 0.3)[rank % 3], 0.8)
    return "#" + "".join(f"{round(255 * part):02x}" for part in shade)


def _outline(box: Box, colour: str, inset: float = 0) -> str:
    """A frame of four pixels, and a dark hairline that parts it from content of the same colour."""
    parts = []
    for stroke, width, inner in ((colour, 4, 2.0), ("#141414", 1, 4.5)):
        left, top, wide, high = box
        by = inset + inner
        if wide > 2 * by and high > 2 * by:
            place = f'x="{left + by:g}" y="{top + by:g}" width="{wide - 2 * by:g}" height="{high - 2 * by:g}"'
            parts.append(f'<rect {place} fill="none" stroke="{stroke}" stroke-width="{width}"/>')
    return "".join(parts)


def _tag(box: Box, text: str, colour: str, place: tuple[float, float] = (0.0, 0.0)) -> str:
    """Text on a ground of the colour, so that it is legible on any content; `place` 0..1 within the box."""
    left, top, width, height = box
    size = min(0.52 * _FONT * len(text), max(width - 12, 1))  # the reader's font is not known: its text is made to fit
    x, y = left + place[0] * (width - size - 12), top + place[1] * (height - _FONT - 8)
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    # relative luminance (Rec. 709) decides between black and white ink
    ink = "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 130 else "#fff"
    ground = f'<rect x="{x:g}" y="{y:g}" width="{size + 12:g}" height="{_FONT + 8}" fill="{colour}"/>'
    fit = f'font-size="{_FONT}" textLength="{size:g}" lengthAdjust="spacingAndGlyphs"'
    return f'{ground}<text x="{x + 6:g}" y="{y + _FONT + 1:g}" fill="{ink}" {fit}>{escape(text)}</text>'
