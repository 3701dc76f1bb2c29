"""Draw who imports whom into docs/guide/house.md: python docs/draw_imports.py

An arrow from A to B says that A imports B. Arrows that follow from others are left out. `--check` only says whether
the drawing is that of the code.
"""

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "guide" / "house.md"
BEGIN, END = "<!-- imports: begin -->\n", "<!-- imports: end -->"
WINGS = {
    "": "the package",
    "footage": "`tracker/footage/`",
    "benchmark": "`tracker/benchmark/`",
    "web": "`tracker/web/`",
}
Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of tracker/ but __init__ by its dotted name, such as benchmark.judge.vot."""
    found = sorted((ROOT / "tracker").rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT / "tracker").with_suffix("").parts): path
        for path in found
        if path.name != "__init__.py"
    }


def imported(path: Path) -> Iterator[str]:
    """What a module imports, at its head and in its functions: dotted names, those of `from` with what they name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph() -> Graph:
    """Module -> the modules that it imports."""
    paths = modules()
    return {
        name: {target[8:] for target in imported(path) if target.startswith("tracker.")} & set(paths) - {name}
        for name, path in paths.items()
    }


def rooms(found: Graph, wing: str) -> Graph:
    """The graph of the rooms of a wing ("" for the package): modules and folders that lie directly in it."""
    inside = f"{wing}." if wing else ""

    def room(name: str) -> str:
        return name.removeprefix(inside).split(".")[0]

    drawn: Graph = {room(name): set() for name in found if name.startswith(inside)}
    for name, targets in found.items():
        if name.startswith(inside):
            drawn[room(name)] |= {room(t) for t in targets if t.startswith(inside)} - {room(name)}
    return drawn


def reduced(found: Graph) -> Graph:
    """Without the arrows that follow from others. graphlib.CycleError: somebody imports himself by a detour."""
    reach: Graph = {}
    for name in graphlib.TopologicalSorter(found).static_order():
        reach[name] = set().union(*({target} | reach[target] for target in found[name]))
    return {name: targets - set().union(*(reach[t] for t in targets)) for name, targets in found.items()}


def drawing() -> str:
    """The drawings as Mermaid, one for each wing."""
    parts, found = [], graph()
    for wing, title in WINGS.items():
        arrows = reduced(rooms(found, wing))
        lines = [f"    {name} --> {target}" for name in sorted(arrows) for target in sorted(arrows[name])]
        parts.append("\n".join([f"Inside {title}:\n\n```mermaid\nflowchart TD", *lines, "```\n"]))
    return "\n".join(parts)


def main() -> int:
    """Draw; 1 when the page was another."""
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    new = f"{head}{BEGIN}\n{drawing()}\n{END}{rest.split(END)[1]}"
    if "--check" not in sys.argv[1:] and new != page:
        PAGE.write_text(new, encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} is drawn again")
        return 0
    return int(new != page)


if __name__ == "__main__":
    sys.exit(main())
