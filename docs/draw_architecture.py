"""Draw docs/pictures/architecture.svg: the rooms of the package as they import each other, and the way of one image through them.

    python docs/draw_architecture.py

Rooms, their files and the arrows are read from the source; `tests/test_architecture.py` compares the committed picture with what
this script draws.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"

# The way of one image in pretraining: (module, what it does, what it hands on). `draw` refuses a module that is not there, and one that
# neither the job nor the method reaches by imports.
BEGINS = ("jigclu_jax.jobs.pretrain", "jigclu_jax.methods.jigclu")
WAY = (
    ("data.sources.opening", "finds the image", "bytes of a file or a record"),
    ("data.sources.decode", "decodes it", "image u8[h, w, 3]"),
    ("data.augment.parameters", "draws crops, colours and blur", "numbers a patch"),
    ("data.augment.crops", "cuts and resizes the patches", "patches u8[p, p, 3]"),
    ("data.input.montage", "shuffles and pastes them", "montages u8[b, S, S, 3], labels of the cells i32[b, m, m]"),
    ("data.input.pipeline", "makes batches ahead of their use", "batch of this process"),
    ("device.mesh", "lays the batch over the devices", "global batch, sharded over its first axis"),
    ("device.feed", "finishes the pictures where asked", "montages u8[b, S, S, 3]"),
    ("ops.normalize", "normalises", "f32[b, S, S, 3]"),
    ("models.resnet", "backbone", "feature map f32[b, s, s, D]"),
    ("ops.decouple", "cuts the map into cells, pools", "features f32[b m m, D]"),
    ("models.heads", "projects, and tells the location", "embeddings f32[b m m, d], logits"),
    ("losses.clustering", "compares all pairs of embeddings", "loss f32[]"),
    ("train.gradient", "derives the loss", "gradient, one array a parameter"),
    ("train.optimizer", "makes the update", "parameters of the next step"),
)

COLOURS = {"data": "#d9ead3", "ops": "#fff2cc", "device": "#cfe2f3", "models": "#ead1dc", "losses": "#ead1dc", "methods": "#ead1dc"}
COLOURS |= {"train": "#d9d2e9", "evals": "#d9d2e9", "jobs": "#f4cccc", "studies": "#f4cccc", "report": "#fce5cd", "interop": "#fce5cd"}
PLAIN = "#eeeeee"
CHARACTERS, LINE, PAD, GAP_X, GAP_Y, TOP = 30, 13, 8, 18, 34, 64  # of a room: letters a line, and pixels
WIDTH = int(CHARACTERS * 5.7) + 2 * PAD
WAY_WIDTH, WAY_HEIGHT, WAY_GAP = 250, 34, 24


def modules() -> dict[str, Path]:
    """Module name -> file of everything in the package."""
    files = sorted((ROOT / "jigclu_jax").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported(path: Path) -> Iterator[str]:
    """Full names that a file imports, inside functions as well; of `from a import b`, a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module: str, folders: set[str]) -> str:
    """The folder of a module, one below `data/`, or its own name where it stands beside folders."""
    parts = module.split(".")[1:]
    while parts and "/".join(parts) not in folders:
        if "/".join(parts[:-1]) in folders - {"data"}:
            return "/".join(parts[:-1])
        if len(parts) == 1 or parts[:-1] == ["data"]:
            break
        parts = parts[:-1]
    return "/".join(parts) or "__init__"


def uses(edges: dict[str, set[str]], one: str) -> set[str]:
    """Everything that `one` reaches."""
    found: set[str] = set()
    rest = [one]
    while rest:
        new = edges[rest.pop()] - found
        found |= new
        rest += new
    return found


def rooms() -> tuple[dict[str, list[str]], dict[str, set[str]], dict[str, set[str]]]:
    """Files of each room, which rooms a room imports, and which modules a module does."""
    paths = modules()
    folders = {"/".join(name.split(".")[1:]) for name, path in paths.items() if path.name == "__init__.py"} - {""}
    files: dict[str, list[str]] = {}
    graph = {
        name: {other for other in imported(path) if other in paths and other not in (name, "jigclu_jax")} for name, path in paths.items()
    }
    edges: dict[str, set[str]] = {}
    for name, named in graph.items():
        own = room(name, folders)
        if own in ("data", "__init__", "__main__"):
            continue
        files.setdefault(own, [])
        if paths[name].name != "__init__.py" and own in folders:
            files[own].append(name.rpartition(".")[2])
        edges.setdefault(own, set()).update(room(other, folders) for other in named)
    for own in edges:
        edges[own] &= files.keys() - {own}
    return files, edges, graph


def layers(edges: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by the longest way down to one that imports nothing; within a layer near to what they import."""
    depth: dict[str, int] = {}

    def of(one: str) -> int:
        if one not in depth:
            depth[one] = max((of(other) + 1 for other in edges[one]), default=0)
        return depth[one]

    found: list[list[str]] = [[] for _ in range(max(map(of, edges)) + 1)]
    for one in sorted(edges):
        found[depth[one]].append(one)
    place = {one: float(index) for index, one in enumerate(found[0])}
    for layer in found[1:]:
        layer.sort(key=lambda one: sum(place[other] for other in edges[one]) / len(edges[one]))
        place |= {one: index + (len(found[0]) - len(layer)) / 2 for index, one in enumerate(layer)}
    return found


def lines(names: list[str]) -> list[str]:
    """The names, as many in a line as fit."""
    found = [""]
    for name in names:
        if len(found[-1]) + len(name) + 2 > CHARACTERS:
            found.append("")
        found[-1] += f"{', ' if found[-1] else ''}{name}"
    return found if names else []


def text(x: float, y: float, words: str, size: int = 11, *, weight: str = "normal", colour: str = "#222", anchor: str = "start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{colour}" stroke="#888"/>'


def colour_of(name: str) -> str:
    return COLOURS.get(name.replace(".", "/").partition("/")[0], PLAIN)


def draw_rooms(files: dict[str, list[str]], edges: dict[str, set[str]]) -> tuple[list[str], float, float]:
    """The left half, its width and its height."""
    everywhere: set[str] = set()
    for one in sorted(edges, key=lambda one: len(edges[one])):
        if not files[one] and edges[one] <= everywhere:
            everywhere.add(one)
    shown = {one: others - everywhere for one, others in edges.items() if one not in everywhere}
    ordered = layers(shown)
    width = max(map(len, ordered)) * (WIDTH + GAP_X) - GAP_X
    places: dict[str, tuple[float, float, float]] = {}
    boxes, y = [], float(TOP)
    for layer in ordered:
        for index, one in enumerate(layer):
            height = 22 + LINE * len(lines(files[one]))
            x = (width - len(layer) * (WIDTH + GAP_X) + GAP_X) / 2 + index * (WIDTH + GAP_X)
            places[one] = (x, y, y + height)
            boxes += [box(x, y, WIDTH, height, colour_of(one)), text(x + PAD, y + 15, one, 12, weight="bold")]
            boxes += [text(x + PAD, y + 30 + LINE * row, line, 10, colour="#555") for row, line in enumerate(lines(files[one]))]
        y = max(places[one][2] for one in layer) + GAP_Y
    arrows = []
    for one, others in sorted(shown.items()):
        for other in sorted(others - {far for near in others for far in uses(shown, near)}):
            (x, top, _), (start, _, bottom) = places[one], places[other]
            x, start = x + WIDTH / 2, start + WIDTH / 2
            bend = min((top - bottom) / 2, 60)
            arrows.append(
                f'<path d="M{start:g} {bottom:g} C{start:g} {bottom + bend:g} {x:g} {top - bend:g} {x:g} {top - 2:g}" '
                'fill="none" stroke="#777" marker-end="url(#tip)"/>'
            )
    names = ", ".join(sorted(everywhere))
    note = [text(0, y + 4, f"Used by all, without an arrow: {names}.", 11, colour="#555")]
    return arrows + boxes + note, width, y + 10


def draw_way(graph: dict[str, set[str]], left: float) -> tuple[list[str], float]:
    """The right half and its height; raises ValueError for a station that is none."""
    reached = set().union(*(uses(graph, begin) for begin in BEGINS))
    parts, y = [], float(TOP)
    for number, (module, does, gives) in enumerate(WAY):
        if f"jigclu_jax.{module}" not in reached:
            raise ValueError(f"{module} in WAY is no module that {BEGINS} import: mend WAY in {Path(__file__).name}")
        parts.append(box(left, y, WAY_WIDTH, WAY_HEIGHT, colour_of(module)))
        parts.append(text(left + PAD, y + 14, module.replace(".", "/") + ".py", 11, weight="bold"))
        parts.append(text(left + PAD, y + 27, does, 10, colour="#555"))
        y += WAY_HEIGHT
        if number < len(WAY) - 1:
            parts.append(f'<path d="M{left + 20:g} {y:g} V{y + WAY_GAP - 2:g}" stroke="#777" marker-end="url(#tip)"/>')
        parts.append(text(left + 30, y + 16, gives, 10))
        y += WAY_GAP
    return parts, y


def draw() -> str:
    """The picture as SVG text."""
    files, edges, graph = rooms()
    left, width, height = draw_rooms(files, edges)
    right, other_height = draw_way(graph, width + 60)
    total, tall = width + WAY_WIDTH + 200, max(height, other_height) + 20
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-20 0 {total:g} {tall:g}" width="{total:g}" height="{tall:g}" '
        'font-family="DejaVu Sans, Verdana, sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#777"/></marker></defs>',
        '<rect x="-20" width="100%" height="100%" fill="white"/>',
        text(0, 26, "Rooms of jigclu_jax and their files", 16, weight="bold"),
        text(0, 45, "An arrow goes from a room to one that imports it; what a longer way says as well is left out.", 11, colour="#555"),
        text(width + 60, 26, "The way of one image", 16, weight="bold"),
        text(width + 60, 45, "Pretraining, data.augment=host: station, and what it hands on.", 11, colour="#555"),
    ]
    return "\n".join([*head, *left, *right, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw())
