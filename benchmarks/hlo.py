"""Reading a compiled program (the text of its optimised HLO): which arrays it holds, what it moves, and what it sends between devices."""

import dataclasses
import math
import re
from collections.abc import Iterator

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {"pred": 8, "s8": 8, "u8": 8, "bf16": 16, "f16": 16, "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64}
SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
CALLED = re.compile(r"\b(?:body|condition|calls|to_apply|true_computation|false_computation)=%([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Sent:
    """One array of one collective.

    Attributes:
      kind: of COLLECTIVES.
      shape: the whole array: what is summed, or what every device has after a gather.
      size: its bytes, times `times`.
      times: how often it is sent in a run of the program (loops multiply).
      made_by: JAX's name of the operation whose result is sent; empty where XLA kept none.
      call: the HLO instruction, which may send several arrays.
    """

    kind: str
    shape: tuple[int, ...]
    size: int
    times: int
    made_by: str
    call: str

    def per_device(self, devices: int) -> float:
        """Bytes that leave one device when the devices form a ring."""
        share = (devices - 1) / devices
        return self.size * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


def shapes_of(text: str) -> set[tuple[int, ...]]:
    """Every shape that occurs in a program, with its axes in descending order."""
    return {tuple(sorted(_dimensions(numbers), reverse=True)) for _, numbers in SHAPE.findall(text)}


def collectives(text: str) -> list[Sent]:
    """Everything that a partitioned program sends, array by array.

    Raises:
      ValueError: a collective whose form is not known here (an asynchronous pair, a loop of unknown length).
    """
    computations = dict(_computations(text))
    times = _times(text, computations)
    found: list[Sent] = []
    for name, lines in computations.items():
        made = {match[1]: _operation_name(line) for line in lines if (match := INSTRUCTION.match(line))}
        for line in lines:
            match = INSTRUCTION.match(line)
            if not match or not match[3].startswith(COLLECTIVES):
                continue
            call, result, kind, rest = match.groups()
            if kind not in COLLECTIVES or not times[name]:
                raise ValueError(f"cannot read {line.strip()[:200]}")
            operands = re.findall(r"%([\w.-]+)", rest.partition(")")[0])
            # what a reduce-scatter sums is its operand, whose shape stands elsewhere: its result times the devices
            arrays = SHAPE.findall(result)
            for operand, (dtype, numbers) in zip(operands, arrays, strict=True):
                shape = _dimensions(numbers)
                size = math.prod(shape) * BITS[dtype] // 8 * times[name]
                if kind == "reduce-scatter":
                    size *= _group_size(line)
                found.append(Sent(kind, shape, size, times[name], made.get(operand, ""), call))
    return found


def estimated_cycles(text: str) -> int:
    """Sum of the cycles that TPU's compiler expects of each operation of a run, those of a loop as often as it runs."""
    computations = dict(_computations(text))
    times = _times(text, computations)
    # what stands inside a fusion is counted with the fusion
    outside = {name for name in computations if name.startswith("ENTRY ")}
    outside |= {name for lines in computations.values() for line in lines if " while(" in line for name in CALLED.findall(line)}
    found = ((name, CYCLES.search(line)) for name in outside for line in computations[name])
    return sum(int(match[1]) * max(times[name], 1) for name, match in found if match)


def traffic(text: str) -> dict[str, int]:
    """Bytes that a GPU's program reads and writes in memory, by sort of kernel: each kernel's operands and results, as their shapes say.

    What lies in a cache is counted all the same, and of an operand that is cut the part that is used. Loops count once.
    """
    computations = dict(_computations(text))
    lines = [match for line in computations[_entry(computations)] if (match := INSTRUCTION.match(line))]
    sizes = {match[1]: _bytes(match[2]) for match in lines}
    found: dict[str, int] = {}
    for match in lines:
        _, result, kind, rest = match.groups()
        if kind in ("parameter", "tuple", "get-tuple-element", "bitcast", "constant"):
            continue
        called = CALLED.search(rest)
        inside = "\n".join(computations.get(called[1], [])) if called else ""
        operands = sum(sizes.get(name, 0) for name in re.findall(r"%([\w.-]+)", rest.partition(")")[0]))
        if kind == "slice" or re.search(r"ROOT %\S+ = \S+ slice\(", inside):
            operands = _bytes(result)
        sort = _sort_of(kind, rest, inside)
        found[sort] = found.get(sort, 0) + operands + _bytes(result)
    return found


def _sort_of(kind: str, rest: str, inside: str) -> str:
    if kind == "custom-call":
        return "convolutions" if '"__cudnn$conv' in rest else "matrix products"
    if "__triton" in rest or "__cublas" in rest:
        return "matrix products"
    if any(f" {name}(" in f" {kind}({inside}" for name in ("select-and-scatter", "reduce-window", "scatter")):
        return "max-pool by XLA"
    if f" {kind}(" == " reduce(" or " reduce(" in inside:
        return "reductions"
    return "transposes" if kind in ("copy", "transpose") else "elementwise"


def _bytes(shapes: str) -> int:
    return sum(math.prod(_dimensions(numbers)) * BITS[dtype] // 8 for dtype, numbers in SHAPE.findall(shapes) if dtype in BITS)


def _entry(computations: dict[str, list[str]]) -> str:
    return next(name for name in computations if name.startswith("ENTRY "))


def _dimensions(numbers: str) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers.split(",") if number)


def _operation_name(line: str) -> str:
    match = re.search(r'op_name="([^"]*)"', line)
    return match[1] if match else ""


def _group_size(line: str) -> int:
    match = re.search(r"replica_groups=\{\{([\d,]*)\}", line) or re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    if match is None:
        raise ValueError(f"cannot read {line.strip()[:200]}")
    return len(match[1].split(",")) if "{{" in match[0] else int(match[1])


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = "", []
    for line in text.splitlines():
        if line and not line.startswith((" ", "}")) and line.endswith("{"):
            name, lines = re.sub(r"^(ENTRY )?%?([\w.-]+).*", r"\1\2", line), []
        elif line.startswith("}") and name:
            yield name, lines
            name = ""
        else:
            lines.append(line)


def _times(text: str, computations: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs when the program runs once; 0 where a loop has no known length."""
    entry = _entry(computations)
    times = dict.fromkeys(computations, 0)

    def visit(name: str, count: int) -> None:
        times[name] += count
        for line in computations[name]:
            called = CALLED.findall(line) + [x.strip(" %") for x in ",".join(BRANCHES.findall(line)).split(",") if x]
            trips = TRIPS.search(line)
            inside = count * (int(trips[1]) if trips else 0) if " while(" in line else count
            for other in called:
                visit(other, inside)

    visit(entry, 1)
    return times
