"""`siamtrack replay`: what a flight log says, how two of them differ, and whether a run comes out the same again."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tracker.config import ModelConfig, from_dict
from tracker.draw import from_jpeg
from tracker.errors import ConfigError, InputError, LogError, MissingError, plain
from tracker.extras import how_to_get
from tracker.footage.boxes import BOX_SUFFIXES, Row, RowWriter, of_one_target
from tracker.footage.output import check_output, write_whole
from tracker.footage.video import frames
from tracker.geometry import iou
from tracker.graphs import is_network
from tracker.loading import weight_file
from tracker.progress import Progress
from tracker.recorder import Log, Step, checksum, describe_run, fingerprint, read_log
from tracker.target import Target
from tracker.tracker import Tracker

MARKS = {"tracking": "=", "uncertain": "?", "lost": "."}  # of a stretch, the worst state in it
TIMELINE = 72  # characters
SPANS = 6  # of a target that are listed
PICTURES = 8  # thumbnails above a plot
ASIDE = ("recorded", "machine", "config")  # of the head: not compared, or compared by their parts


def replay(args: argparse.Namespace) -> int:
    """Show one log, or compare two, or do a run again; returns 1 where something differs."""
    plot = check_output(args.plot, (".png", ".svg", ".pdf"), args.force) if args.plot else None
    boxes = check_output(args.boxes, BOX_SUFFIXES, args.force) if args.boxes else None
    if args.other and (args.rerun or plot or boxes):
        raise InputError("--rerun, --plot and --boxes take one log")
    if args.source and not args.rerun:
        raise InputError("--source is for --rerun")
    log = read_log(args.log)
    if args.other:
        return _compare(log, read_log(args.other))
    for line in described(log):
        print(plain(line))
    if boxes:
        write_boxes(log, boxes)
        print(f"wrote {boxes}")
    if plot:
        draw_log(log, plot)
        print(f"wrote {plot}")
    if not args.rerun:
        return 0
    with Progress("again", len(log.steps)) as bar:
        again = run_again(log, args.source, args.weights, bar)
    differing = differences(log, again)
    if not differing:
        print(f"again: the same in all {len(log.steps)} frames, bit for bit")
        return 0
    print(plain(f"again: {differing[0]}"))
    print(f"       {len(differing)} of {len(log.steps)} frames differ")
    for line in unlike(log.head, again.head):
        print(plain(f"       {line}"))
    return 1


# --- one log


def described(log: Log) -> Iterator[str]:
    """What a log says, in lines."""
    head = log.head
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(head["recorded"]))
    threads = (
        "the usual threads" if head["threads"] is None else f"{head['threads']} thread{'s' * (head['threads'] != 1)}"
    )
    yield f"{log.path}: {when} UTC, siamtrack {head['siamtrack']}"
    yield f"source   {head['source'] or 'unknown'}{' (live)' * head['live']}"
    weights = f"{head['weights']}, SHA-256 {head['sha256'][:12]}" if head["weights"] else "not from a file"
    yield f"weights  {weights}; {head['engine']} on {head['device']}, {threads}"
    yield f"machine  {head['machine'].get('processor', 'unknown')}"
    ended = "killed, or it still goes on" if log.end is None else log.end["end"]
    torn = f"; the last {log.lost} bytes are no whole line" if log.lost else ""
    if not log.steps:
        yield f"frames   none; {ended}{torn}"
        return
    first, last = log.steps[0], log.steps[-1]
    yield f"frames   {len(log.steps)}, from {first.frame} to {last.frame}; {ended}{torn}"
    total = np.array([sum(step.ms) for step in log.steps if step.followed])
    if len(total):
        stages = np.median([step.ms for step in log.steps if step.followed], axis=0)
        parts = ", ".join(f"{name} {ms:.1f}" for name, ms in zip(("crop", "network", "post"), stages, strict=True))
        yield f"update   {np.median(total):.1f} ms in the median ({parts}), 95 % below {np.percentile(total, 95):.1f}"
    if head["begun"] is not None:
        late = [1e3 * (step.clock - head["begun"] - step.time) for step in log.steps]
        yield f"latency  {np.median(late):.1f} ms from capture to result in the median, {max(late):.1f} at most"
    for number in log.ids:
        yield from _target_lines(log, number)


def _target_lines(log: Log, number: int) -> Iterator[str]:
    rows = [step.rows[number] for step in log.steps if number in step.rows]
    counts = {state: sum(row.state == state for row in rows) for state in MARKS}
    said = ", ".join(f"{state} {count}" for state, count in counts.items() if count)
    yield f"target {number}: {said}; mean score {np.mean([row.score for row in rows]):.2f}"
    yield f"  {timeline(rows)}"
    spans = [list(group) for lost, group in groupby(rows, lambda row: row.state == "lost") if lost]
    if spans:
        named = [f"{span[0].frame}" + (f"-{span[-1].frame}" if len(span) > 1 else "") for span in spans]
        yield f"  lost in {', '.join(named[:SPANS])}{f' and {len(named) - SPANS} more' * (len(named) > SPANS)}"


def timeline(rows: Sequence[Row]) -> str:
    """The states of a target from left to right, see `MARKS`; of several frames in one place, the worst."""
    order = list(MARKS)
    places = np.linspace(0, len(rows), min(len(rows), TIMELINE) + 1).astype(int)
    parts = [rows[a:b] for a, b in pairwise(places)]
    return "".join(MARKS[order[max(order.index(row.state) for row in part)]] for part in parts)


def write_boxes(log: Log, path: Path) -> None:
    """Write the boxes of a log as `track --boxes` does."""
    if of_one_target(path) and len(log.ids) > 1:
        raise InputError(f"{path}: the boxes of several targets need .csv, .json or .mot.txt")
    table = RowWriter(path)
    for step in log.steps:
        table.write(list(step.rows.values()))
    table.close({"source": log.head["source"], "weights": log.head["weights"], "siamtrack": log.head["siamtrack"]})


def draw_log(log: Log, path: Path) -> None:
    """Plot scores, states and the time of updates over the frames, below the thumbnails. Raises ImportError."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"--plot draws with matplotlib: {how_to_get('plots')}") from error
    if not log.steps:
        raise LogError(f"{log.path}: there is no frame to plot")
    figure = Figure(figsize=(11, 7), layout="constrained")
    pictured = [step for step in log.steps if step.thumbnail]
    pictured = [pictured[int(i)] for i in np.linspace(0, len(pictured) - 1, min(PICTURES, len(pictured))).round()]
    rows = figure.subfigures(2 if pictured else 1, 1, height_ratios=[1, 4] if pictured else [1], squeeze=False)[:, 0]
    if pictured:
        for axes, step in zip(np.ravel(rows[0].subplots(1, len(pictured))), pictured, strict=True):
            try:
                picture = from_jpeg(step.thumbnail)
            except InputError:
                raise LogError(f"{log.path}: the thumbnail of frame {step.frame} is no picture") from None
            axes.imshow(picture[:, :, ::-1])
            scale = picture.shape[1] / log.head["size"][0] if log.head["size"] else 1.0
            for row in step.rows.values():
                if row.state != "lost":
                    x, y, w, h = (scale * v for v in row.box)
                    style = "--" if row.state == "uncertain" else "-"
                    axes.plot([x, x + w, x + w, x, x], [y, y, y + h, y + h, y], style, color=f"C{row.id % 10}")
            axes.set_title(f"{step.frame}", fontsize=8)
            axes.set_axis_off()
    scores, times = rows[-1].subplots(2, 1, sharex=True)
    for number in log.ids:
        known = [step.rows[number] for step in log.steps if number in step.rows]
        at, colour = [row.frame for row in known], f"C{number % 10}"
        scores.plot(at, [row.score for row in known], color=colour, label=f"target {number}")
        for state, alpha in (("uncertain", 0.12), ("lost", 0.3)):
            where = [row.state == state for row in known]
            scores.fill_between(at, 0, 1, where=where, step="mid", color=colour, alpha=alpha, linewidth=0)
    scores.set(ylabel="score (dark: lost, pale: uncertain)", ylim=(0, 1.02))
    scores.legend(loc="lower left")
    at, ms = [step.frame for step in log.steps], np.array([step.ms for step in log.steps])
    times.stackplot(at, ms.T, labels=("crop", "network", "post"), alpha=0.7)
    times.set(xlabel="frame", ylabel="ms", ylim=(0, None))
    times.legend(loc="upper left")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=110)
    write_whole(path, drawn.getvalue())


# --- two logs


def _compare(log: Log, other: Log) -> int:
    """Print how two runs differ; 1 where they do."""
    for line in unlike(log.head, other.head):
        print(plain(line))
    differing = differences(log, other)
    count = len({step.frame for step in log.steps} | {step.frame for step in other.steps})
    if not differing:
        print(f"the same in all {count} frames, bit for bit")
        return 0
    print(plain(differing[0]))
    print(f"{len(differing)} of {count} frames differ")
    ours = {(step.frame, n): row for step in log.steps for n, row in step.rows.items()}
    theirs = {(step.frame, n): row for step in other.steps for n, row in step.rows.items()}
    both = sorted(ours.keys() & theirs.keys())
    if both:
        overlap = iou([ours[key].box for key in both], [theirs[key].box for key in both])
        worst = both[int(np.argmin(overlap))]
        states = sum(ours[key].state != theirs[key].state for key in both)
        print(
            f"overlap of the boxes {overlap.mean():.3f} in the mean, {overlap.min():.3f} in frame {worst[0]};", end=" "
        )
        print(f"another state in {states} of {len(both)}")
    return 1


def unlike(head: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """In what two runs were not alike, a line each."""
    for key in head.keys() | other.keys():
        if key not in ASIDE and head.get(key) != other.get(key):
            yield f"{key}: {head.get(key)} here, {other.get(key)} there"
    for key in ("machine", "config"):
        mine, yours = _flat(head.get(key, {})), _flat(other.get(key, {}))
        for name in sorted(mine.keys() | yours.keys()):
            if mine.get(name) != yours.get(name) and not name.startswith("load "):
                yield f"{key} {name}: {mine.get(name)} here, {yours.get(name)} there"


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{path}.{key}" if path else key
        found |= _flat(value, name) if isinstance(value, dict) else {name: value}
    return found


def differences(log: Log, other: Log) -> list[str]:
    """A line for each frame that differs to the bit in two runs: its picture, what began in it, or a result."""
    ours, theirs = ({step.frame: step for step in one.steps} for one in (log, other))
    return [
        f"frame {frame}: {said}"
        for frame in sorted(ours.keys() | theirs.keys())
        if (said := _difference(ours.get(frame), theirs.get(frame)))
    ]


def _difference(step: Step | None, other: Step | None) -> str:
    if step is None or other is None:
        return f"only in the {'first' if other is None else 'second'} run"
    if step.picture != other.picture:
        return f"the picture is another one (CRC-32 {step.picture}, {other.picture})"
    if step.started != other.started:
        return f"targets began in {step.started}, {other.started}"
    if step.followed != other.followed:
        return f"targets {step.followed} were followed, {other.followed}"
    for number in sorted(step.rows.keys() | other.rows.keys()):
        mine, yours = step.rows.get(number), other.rows.get(number)
        if mine is None or yours is None:
            return f"target {number} is only in the {'first' if yours is None else 'second'} run"
        for name in ("x", "y", "w", "h", "score", "state"):
            if getattr(mine, name) != getattr(yours, name):
                return f"target {number}: {name} is {getattr(mine, name)!r}, {getattr(yours, name)!r}"
    return ""


# --- the run once more


def run_again(log: Log, source: str | None = None, weights: str | None = None, bar: Progress | None = None) -> Log:
    """Do a recorded run again, with its weights, config, engine and frames. source, weights: where they are now.

    Frames that the run did not see (dropped ones) are passed over. Raises LogError: the weights are others, the source
    cannot be played again. What `frames` and `Tracker.load` raise.
    """
    head = log.head
    if not log.steps:
        raise LogError(f"{log.path}: there is no frame to do again")
    if source is None and head["live"]:
        raise LogError(f"{log.path}: {head['source']} was live; a recording of it is given by --source")
    film = source or log.film
    if film is None:
        raise LogError(f"{log.path}: there is no file {head['source']!r}; --source says where the frames are")
    tracker = _same_tracker(log, weights)
    wanted = {step.frame: step for step in log.steps}
    steps, targets = [], dict[int, Target]()
    first, last = log.steps[0].frame, log.steps[-1].frame
    with frames(film, first, last + 1) as opened:
        begun = describe_run(tracker, opened)
        for frame in opened:
            step = wanted.get(frame.index)
            if step is None:
                continue
            results = tracker.update_all(frame.image, [targets[n] for n in step.followed])
            found = zip(step.followed, results, strict=True)
            rows = {n: Row.of(frame, n, r.box, r.score, r.state) for n, r in found}
            for number, box in step.started.items():
                targets[number] = tracker.init(frame.image, box)
                rows[number] = Row.of(frame, number, box)
            ms = (results[0].crop_ms, results[0].network_ms, results[0].post_ms) if results else (0.0, 0.0, 0.0)
            picture = checksum(frame.image)
            steps.append(Step(frame.index, frame.time, time.time(), picture, step.followed, step.started, rows, ms))
            if bar:
                bar.update()
    return Log(
        log.path,
        begun | {"source": head["source"], "live": head["live"], "begun": head["begun"]},
        steps,
        {"end": "finished"},
    )


def _same_tracker(log: Log, weights: str | None) -> Tracker:
    head = log.head
    given = weights or head["weights"]
    if given is None:
        raise LogError(f"{log.path}: the network was not loaded from a file; one is given by --weights")
    try:
        config = from_dict(ModelConfig, head["config"], "config")
    except ConfigError as error:
        raise LogError(f"{log.path}: {error}") from None
    found = fingerprint(Path(given) if is_network(Path(given)) else weight_file(given))
    if found != head["sha256"]:
        raise LogError(
            f"{given} are other weights by now (SHA-256 {found[:12]}, not {head['sha256'][:12]}); "
            "--weights FILE says where those of the run are"
        )
    tracker = Tracker.load(given, head["device"], head["threads"], config.tracking, head["engine"])
    tracker.passes = head["passes"]
    return tracker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamtrack replay`."""
    parser.add_argument("log", metavar="RUN.siamlog", help="what `siamtrack track --record` wrote")
    parser.add_argument("other", nargs="?", metavar="OTHER.siamlog", help="another one: say where the two runs differ")
    parser.add_argument(
        "--rerun", action="store_true", help="do the run again, and say in which frame it first comes out otherwise"
    )
    parser.add_argument("--source", metavar="SOURCE", help="for --rerun: where the frames are now [as recorded]")
    parser.add_argument("--weights", metavar="NAME|FILE", help="for --rerun: where the weights are now [as recorded]")
    parser.add_argument(
        "--plot", metavar="OUT.png", help="plot scores, states, times and thumbnails (.png, .svg, .pdf)"
    )
    parser.add_argument("--boxes", metavar="OUT", help="write its boxes, as `track --boxes` does")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
