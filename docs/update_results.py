"""Put the numbers and plots of a report into the documents: python docs/update_results.py REPORT [--docs FOLDER]

Everything between the two marks in results.md is replaced by the tables of REPORT/tables.md, and the plots, CSV, JSON
and LaTeX table are copied to bench/ beside it. No footage is copied: report.html stays where it is.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

BEGIN, END = "<!-- numbers of the report: begin -->", "<!-- numbers of the report: end -->"
FILES = ("report.json", "trackers.csv", "sequences.csv", "table.tex")


def main(words: list[str] | None = None) -> int:
    """Update; 0 done, 2 when the report or the marks are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="the folder that `siamtrack bench --out` wrote")
    parser.add_argument("--docs", type=Path, default=Path(__file__).parent, help="folder of results.md")
    args = parser.parse_args(words)
    page, bench = args.docs / "results.md", args.docs / "bench"
    try:
        tables = (args.report / "tables.md").read_text(encoding="utf-8")
        before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        _, other, after = rest.partition(END)
        if not mark or not other:
            raise ValueError(f"{page}: the marks {BEGIN} and {END} are missing")
        plots = sorted(path for path in (args.report / "plots").iterdir() if path.suffix in (".png", ".svg"))
        bench.mkdir(exist_ok=True)
        for path in [*plots, *(args.report / name for name in FILES)]:
            shutil.copy(path, bench / path.name)
    except (OSError, ValueError) as error:
        print(f"update_results: {error}", file=sys.stderr)
        return 2
    pictures = "\n".join(f"![{path.stem}](bench/{path.name})" for path in plots if path.suffix == ".png")
    part = page.with_suffix(".part")
    part.write_text(f"{before}{BEGIN}\n\n{tables}\n{pictures}\n\n{END}{after}", encoding="utf-8")
    os.replace(part, page)
    print(f"{page}: tables and {len(plots)} plots of {args.report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
