"""The drawing of the house, `docs/house.svg`, from the imports: `make docs` draws it again, a test holds it to them.

Rooms stand on the floors that pyproject.toml's layer contract names, verbs on top. A line says that a room imports one
below; those that follow from others are left out (the transitive reduction), so that the picture can be read.
"""

import tomllib
from pathlib import Path

import grimp
import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
DRAWING = ROOT / "docs" / "house.svg"
LEFT_OUT = {"__main__", "orchestration", "errors", "flow", "config"}
"""What starts the stages, and what nearly everybody imports: their lines would hide the rest."""
WIDTH, FLOOR, BOX, MARGIN = 1280, 130, 34, 60
LETTER = 8.4
COLOURS = ("#4269d0", "#b8860b", "#d1495b", "#2a9d8f", "#3ca951", "#c2557d", "#7b57c2", "#6a8caf", "#9c6b4e", "#5b6770")
"""A line has the colour of the room it leads to."""


def floors() -> list[list[str]]:
    """The rooms of `jobs` by floor, top first, as the layer contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["jobs"])
    rooms = [[room.strip() for room in layer.split("|")] for layer in layers]
    return [kept for floor in rooms if (kept := [room for room in floor if room not in LEFT_OUT])]


def imports() -> set[tuple[str, str]]:
    """Which room of `jobs` imports which."""
    graph = grimp.build_graph("jobs", cache_dir=None)
    pairs = {
        (above.split(".")[1], below.split(".")[1])
        for above in graph.modules
        for below in graph.find_modules_directly_imported_by(above)
        if "." in above and "." in below
    }
    return {(above, below) for above, below in pairs if above != below and not {above, below} & LEFT_OUT}


def svg() -> str:
    """The picture."""
    lines = nx.transitive_reduction(nx.DiGraph(sorted(imports())))
    centres = _centres(floors(), lines)
    targets = sorted({below for _, below in lines.edges}, key=lambda room: centres[room])
    colour = {room: COLOURS[number % len(COLOURS)] for number, room in enumerate(targets)}
    height = round(max(y for _, y in centres.values()) + MARGIN)
    drawn = [_line(centres[above], centres[below], colour[below]) for above, below in sorted(lines.edges)]
    drawn += [_box(room, *centres[room], colour.get(room, "#333333")) for room in sorted(centres)]
    font = 'font-family="sans-serif" font-size="14"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {font}>'
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, ground, *drawn, "</svg>", ""])


def _centres(rooms: list[list[str]], lines: nx.DiGraph) -> dict[str, tuple[float, float]]:
    """Where each room's box has its middle: stages in the order of the flow, those below near who imports them."""
    found: dict[str, tuple[float, float]] = {}
    for number, floor in enumerate(rooms):
        wish = {}
        for place, room in enumerate(floor):
            above = [found[one][0] for one in lines.predecessors(room) if one in found] if room in lines else []
            wish[room] = (sum(above) / len(above) if above and number else place * WIDTH, room)
        order = sorted(floor, key=wish.__getitem__)
        step = (WIDTH - MARGIN) / len(order)
        for place, room in enumerate(order):
            low = 0 if number else place % 2 * (BOX + 8)  # a dozen stages need two rows
            found[room] = (MARGIN / 2 + step * (place + 0.5), MARGIN + number * FLOOR + low)
    return found


def _line(above: tuple[float, float], below: tuple[float, float], colour: str) -> str:
    (x, y), (u, v) = (above[0], above[1] + BOX / 2), (below[0], below[1] - BOX / 2)
    bend = (v - y) / 2
    path = f"M{x:.0f} {y:.0f}C{x:.0f} {y + bend:.0f} {u:.0f} {v - bend:.0f} {u:.0f} {v:.0f}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.75"/>'


def _box(room: str, x: float, y: float, colour: str) -> str:
    width = len(room) * LETTER + 22
    frame = f'<rect x="{x - width / 2:.0f}" y="{y - BOX / 2:.0f}" width="{width:.0f}" height="{BOX}" rx="6"'
    text = f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle" fill="#1a1a1a">{room}</text>'
    return f'{frame} fill="#ffffff" stroke="{colour}" stroke-width="2"/>{text}'


if __name__ == "__main__":
    DRAWING.write_text(svg())
