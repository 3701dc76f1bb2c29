"""Put the numbers and plots of reports into the documents.

python docs/update_results.py report REPORT     of `siamtrack bench`: tables of results.md, plots and numbers of bench/
python docs/update_results.py events LOST       of `siamtrack bench --events`: tables and diagram of lost.md

Everything between the two marks in a page is replaced. No footage is copied: report.html stays where it is.
"""

import argparse
import shutil
import sys
from pathlib import Path

from tracker.footage.output import write_whole

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
FILES = ("report.json", "trackers.csv", "sequences.csv", "table.tex")


def main(words: list[str] | None = None) -> int:
    """Update; 0 done, 2 when the report or the marks are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["report", "events"])
    parser.add_argument("folder", type=Path, help="what `siamtrack bench --out` wrote")
    parser.add_argument("--docs", type=Path, default=Path(__file__).parent, help="folder of the pages")
    args = parser.parse_args(words)
    try:
        if args.kind == "report":
            tables = (args.folder / "tables.md").read_text(encoding="utf-8")
            plots = sorted(p for p in (args.folder / "plots").iterdir() if p.suffix in (".png", ".svg"))
            files = [*plots, *(args.folder / name for name in FILES)]
            page = args.docs / "results.md"
        else:
            tables = (args.folder / "events.md").read_text(encoding="utf-8")
            plots = [args.folder / "reliability.png"]
            files = [*plots, args.folder / "events.json"]
            page = args.docs / "lost.md"
        (args.docs / "bench").mkdir(exist_ok=True)
        pictures = "\n".join(f"![{path.stem}](bench/{path.name})" for path in plots if path.suffix == ".png")
        replace(page, f"{tables}\n{pictures}")
        for path in files:
            shutil.copy(path, args.docs / "bench" / path.name)
    except (OSError, ValueError) as error:
        print(f"update_results: {error}", file=sys.stderr)
        return 2
    print(f"{page}: tables and {len(plots)} plots of {args.folder}")
    return 0


def replace(page: Path, text: str) -> None:
    """Put `text` between the marks of a page, whole or not at all. Raises ValueError when they are missing."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, other, after = rest.partition(END)
    if not mark or not other:
        raise ValueError(f"{page}: the marks {BEGIN} and {END} are missing")
    write_whole(page, f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
