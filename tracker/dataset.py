"""`siamtrack dataset`: what was tracked, as a data set that other tools read and that can be trained on."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from tracker.crop import Image
from tracker.errors import DataError, InputError, SourceError
from tracker.footage.boxes import Row, read_rows
from tracker.footage.dataset import WRITTEN, Labels, write_dataset
from tracker.footage.decoder import Decoder
from tracker.footage.files import read_json
from tracker.progress import Progress
from tracker.recorder import SUFFIX, read_log


@dataclass(frozen=True)
class Run:
    """What was tracked. clip: the footage, as far as the file says. size: (width, height) of its frames, px."""

    rows: list[Row]
    clip: str | None = None
    size: tuple[int, int] | None = None


def dataset(args: argparse.Namespace) -> int:
    """Write the boxes of a run and the frames of its clip as a data set."""
    path = Path(args.boxes)
    run = read_run(path)
    clip = args.source or run.clip
    if clip is None:
        raise InputError(f"{path} does not say of which clip its boxes are; --source CLIP does")
    if clip.isdigit() or "://" in clip:
        raise InputError(f"{clip}: a camera or stream cannot be read again; --source takes a recording of it")
    root = Path(args.out or f"{path.stem}-dataset")
    if (root / args.layout).exists() and not args.force:
        raise FileExistsError(f"{root / args.layout} exists; remove it, or overwrite it by --force")
    rows = [row for row in run.rows if row.state == "tracking" or not args.sure]
    known = sorted({row.id for row in rows})
    names = (args.names or "target").split(",")
    if not all(map(str.strip, names)) or len(names) not in (1, len(known)):
        raise InputError(f"--names {args.names}: one name for all targets, or one for each of {len(known)}")
    called = {number: names[place % len(names)].strip() for place, number in enumerate(known)}
    decoder, length = Decoder(clip), 1 + max((row.frame for row in run.rows), default=0)

    def read(number: int) -> Image:
        try:
            return decoder.frame(number).image
        except SourceError as error:
            raise SourceError(f"{error}; {path.name} asks for frame {number}") from None

    size = read(run.rows[0].frame).shape[1::-1] if run.rows else (1, 1)
    if run.size not in (None, size):
        raise DataError(f"{path}: boxes of frames of {run.size}, {clip} has frames of {size}")
    video = Path(clip) if Path(clip).is_file() else None
    labels = Labels(Path(clip).stem or "clip", size, length, rows, called, {}, video)
    with Progress("write", None, quiet=args.quiet) as bar:

        def counted(number: int) -> Image:
            bar.update()
            return read(number)

        folder = write_dataset(root, args.layout, labels, counted)
    decoder.close()
    if not args.quiet:
        print(f"wrote {folder}")
    return 0


def read_run(path: Path) -> Run:
    """Boxes of `siamtrack track`, of the page, or of a flight log. Raises DataError, LogError, InputError: no such."""
    if path.suffix.lower() == SUFFIX:
        log = read_log(path)
        size = log.head["size"]
        return Run([row for step in log.steps for row in step.rows.values()], log.film, tuple(size) if size else None)
    rows = read_rows(path)
    if path.suffix.lower() != ".json":
        return Run(rows)
    meta = read_json(path).get("meta")
    source = meta.get("source") if isinstance(meta, dict) else None
    return Run(rows, source if isinstance(source, str) and Path(source).exists() else None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamtrack dataset`."""
    parser.description = "Write boxes and frames as a data set. Boxes of lost targets, which are guesses, are left out."
    parser.add_argument("boxes", metavar="BOXES", help="of `track` or the page: .csv, .json, .mot.txt; or a .siamlog")
    parser.add_argument("--layout", choices=WRITTEN, required=True, help="what it looks like")
    parser.add_argument("--source", metavar="CLIP", help="the video or images tracked [what a .json or .siamlog says]")
    parser.add_argument("--out", metavar="DIR", help="it becomes DIR/LAYOUT [BOXES-dataset]")
    parser.add_argument("--names", metavar="NAME,..", help="class of each target, by id, or one for all [target]")
    parser.add_argument("--sure", action="store_true", help="leave out boxes of uncertain targets, too")
    parser.add_argument("--force", action="store_true", help="overwrite DIR/LAYOUT")
    parser.add_argument("--quiet", action="store_true", help="say nothing")
