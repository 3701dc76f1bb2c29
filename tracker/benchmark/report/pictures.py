"""The pictures of a report: plots with matplotlib, strips of frames around losses with OpenCV."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tracker.benchmark.judge import metrics
from tracker.benchmark.judge.rules import Rule
from tracker.benchmark.judge.scores import TrackerScore, find_losses
from tracker.benchmark.protocols import Part, Protocol
from tracker.benchmark.report.tables import CLOCKED, Column, is_vot
from tracker.benchmark.results import Run, Runs
from tracker.errors import MissingError
from tracker.extras import how_to_get
from tracker.footage.files import Floats, present
from tracker.footage.sequence import Sequence

# Colours that stay apart in print and for colour-blind readers (Okabe and Ito, then Tol), first tracker first.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b", "#332288", "#bcbd22",
    "#aa4499", "#117733",
)  # fmt: skip
TRUTH = "#ffffff"
STRIP_OFFSETS = (-10, -3, 0, 5, 10, 20)
NEAR = 10  # frames: losses so near each other share a strip
PICTURE = (360, 270)  # width, height of one picture of a strip, px
AROUND = 4.0  # a picture shows at least so many target sizes


def need_matplotlib() -> Any:
    """Return matplotlib's Figure; ImportError says how to install it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"the report draws with matplotlib: {how_to_get('plots')}") from error
    return Figure


def plain(name: str) -> str:
    """A name as matplotlib shows it letter by letter: between dollars it would see a formula, behind "_" nothing."""
    return ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")


def pick_colours(names: list[str]) -> dict[str, str]:
    """Return a colour for each tracker; after twelve they repeat."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def draw_plots(
    scores: list[TrackerScore], protocol: Protocol, rule: Rule, measure: Column, colours: dict[str, str]
) -> dict[str, Any]:
    """Return matplotlib figures by name: the curves of the protocol (none for VOT's), speed and accuracy.

    measure: the one that ranks. colours: by the name of the tracker.
    """
    Figure = need_matplotlib()
    figures: dict[str, Any] = {}
    dashed = set(list(colours)[len(COLOURS) :])

    def axes(name: str, title: str, x: str, y: str) -> Any:
        figures[name] = Figure(figsize=(5.2, 4.0), layout="constrained")
        axis = figures[name].add_subplot()
        axis.set(title=title, xlabel=x, ylabel=y)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        return axis

    def line(axis: Any, score: TrackerScore, x: Any, y: Any, value: float) -> None:
        style = {"color": colours[score.name], "linestyle": "--" if score.name in dashed else "-"}
        axis.plot(x, y, label=f"{plain(score.name)} [{value:.3f}]", linewidth=1.6, **style)

    kinds = (
        ("success", f"Success ({protocol}, {rule.name})", "overlap threshold", metrics.SUCCESS_THRESHOLDS,
         "success_auc"),
        ("precision", f"Precision ({protocol})", "centre error, px", metrics.PRECISION_THRESHOLDS, "precision_20"),
        ("normalised_precision", f"Normalised precision ({protocol})", "centre error / target size",
         metrics.NORMALISED_THRESHOLDS, "normalised_precision_20"),
    )  # fmt: skip
    if not is_vot(protocol):
        for key, title, label, thresholds, value in kinds:
            axis = axes(key, title, label, "share of frames")
            for score in sorted(scores, key=lambda s, name=value: -s.values[name]):  # type: ignore[misc]
                line(axis, score, thresholds, score.curves[key], score.values[value])
            axis.set(ylim=(0, 1), xlim=(0, thresholds[-1]))
            axis.legend(fontsize=7, loc="lower left" if key == "success" else "lower right")
    if protocol == "longterm":
        axis = axes("long_term", "Precision and recall over score thresholds", "recall", "precision")
        for score in scores:
            line(
                axis,
                score,
                score.curves["long_term_recall"],
                score.curves["long_term_precision"],
                score.values["long_term_f"],
            )
            best = [score.values["long_term_recall"]], [score.values["long_term_precision"]]
            axis.scatter(*best, color=colours[score.name], s=25)
        axis.set(ylim=(0, 1.02), xlim=(0, 1))
        axis.legend(fontsize=7, loc="lower left")
    _draw_speed(axes, scores, protocol, measure, colours)
    return figures


def draw_attributes(
    scores: list[TrackerScore], sequences: list[Sequence], protocol: Protocol, colours: dict[str, str]
) -> dict[str, Any]:
    """Return one figure of success curves, a panel an attribute, or none where no sequence has one (or VOT judges)."""
    names = sorted({name for sequence in sequences for name in sequence.attributes})
    if not names or is_vot(protocol):
        return {}
    across = min(4, len(names))
    down = math.ceil(len(names) / across)
    figure = need_matplotlib()(figsize=(3.1 * across, 2.7 * down), layout="constrained")
    for place, name in enumerate(names, 1):
        having = [sequence.name for sequence in sequences if name in sequence.attributes]
        axis = figure.add_subplot(down, across, place)
        for score in scores:
            rows = np.array([score.success[one] for one in having])
            rows = rows[np.isfinite(rows).all(axis=1)]
            if len(rows):
                mean = rows.mean(axis=0)
                label = f"{plain(score.name)} [{mean.mean():.3f}]"
                axis.plot(metrics.SUCCESS_THRESHOLDS, mean, color=colours[score.name], linewidth=1.2, label=label)
        axis.set(title=f"{plain(name)} ({len(having)})", xlim=(0, 1), ylim=(0, 1))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=5, loc="lower left")
    return {"attributes": figure}


def _draw_speed(
    axes: Any, scores: list[TrackerScore], protocol: Protocol, measure: Column, colours: dict[str, str]
) -> None:
    title = "Speed and accuracy" + (", bars up to that without a clock" if protocol in CLOCKED else "")
    axis = axes("speed", title, "median milliseconds an update took, one core", measure.heading)
    points = [(s.name, s.latency_ms.get("update", {}).get("p50", math.nan), measure.read(s)) for s in scores]
    points = [(name, x, y) for name, x, y in points if math.isfinite(x) and x >= 0.01 and math.isfinite(y)]
    offline = {s.name: s.values["offline_auc"] for s in scores if "offline_auc" in s.values}
    place = -math.inf  # of the last name, so that names do not cover each other
    for name, x, y in sorted(points, key=lambda point: point[2]):
        place = max(y, place + 0.035)
        axis.scatter([x], [y], color=colours[name], s=45, zorder=3)
        if name in offline:  # what the clock took
            axis.plot([x, x], [y, offline[name]], color=colours[name], linewidth=1)
            axis.scatter([x], [offline[name]], marker="_", color=colours[name], s=60, zorder=3)
        arrow = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6} if place - y > 0.01 else None
        text = {"va": "center", "fontsize": 7, "color": colours[name]}
        axis.annotate(plain(name), (x, y), xytext=(x * 1.18, place), arrowprops=arrow, **text)
    if points:
        axis.set_xscale("log", subs=(2, 5))
        for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            ticks("{x:g}")  # 2 and 5, not powers of ten, which would cover each other
        axis.set_xlim(min(x for _, x, _ in points) / 1.6, max(x for _, x, _ in points) * 6)
    axis.set_ylim(0, 1)


def render(figure: Any, kind: str) -> bytes:
    """Return a figure as the bytes of a "svg" or "png" file, the same for the same numbers."""
    file = io.BytesIO()
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "siamtrack"}):
        figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


@dataclass(frozen=True)
class Strip:
    """Pictures around the losses of one or more trackers near each other; label: of the run, "" where there is one."""

    trackers: tuple[str, ...]
    sequence: str
    label: str
    frame: int
    pictures: list[tuple[str, bytes]]  # caption, JPEG


@dataclass
class Loss:
    """Where trackers lost the target: frame of the first of them in the run `index` of a sequence."""

    sequence: Sequence
    index: int
    frame: int
    trackers: list[str]


def find_all(runs: dict[str, Runs], sequences: list[Sequence], protocol: Protocol) -> Iterator[Loss]:
    """Yield the losses of every run, those near each other as one; runs: by the name of the tracker."""
    for sequence in sequences:
        for index, _ in enumerate(next(iter(runs.values())).by_sequence[sequence.name]):
            frames = []
            for name, made in runs.items():
                part, run = made.by_sequence[sequence.name][index]
                frames += [(frame, name) for frame in find_losses(part, run, protocol)]
            group: Loss | None = None
            for frame, name in sorted(frames):
                if group and frame - group.frame <= NEAR and name not in group.trackers:
                    group.trackers.append(name)
                    continue
                if group:
                    yield group
                group = Loss(sequence, index, frame, [name])
            if group:
                yield group


def draw_strip(loss: Loss, runs: dict[str, Runs], colours: dict[str, str]) -> Strip:
    """Draw the frames around a loss: the boxes of all trackers, those that lost it thick, and the truth in white.

    The pictures show the same window: the target and the boxes of those that lost it, at least four target sizes.
    """
    made = {name: run.by_sequence[loss.sequence.name][loss.index] for name, run in runs.items()}
    part = next(iter(made.values()))[0]
    last = len(part.sequence) - 1
    chosen = sorted({min(max(loss.frame + offset, 0), last) for offset in STRIP_OFFSETS})
    window = _window(loss, made, part, chosen)
    x, y, w, h = window
    pictures = []
    for frame in chosen:
        quality = cv2.INTER_AREA if w > PICTURE[0] else cv2.INTER_LINEAR
        picture = cv2.resize(part.sequence.image(frame)[y : y + h, x : x + w], PICTURE, interpolation=quality)
        for name, (_, run) in sorted(made.items(), key=lambda item: item[0] in loss.trackers):
            lost = name in loss.trackers
            _rectangle(picture, run.boxes[frame], window, colours[name], 4 if lost else 2, edge=lost)
        _rectangle(picture, part.sequence.boxes[frame], window, TRUTH, 2, edge=True)
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        pictures.append((f"frame {frame}" + (", lost" if frame == loss.frame else ""), jpeg))
    return Strip(tuple(loss.trackers), loss.sequence.name, part.label, loss.frame, pictures)


def _window(loss: Loss, made: dict[str, tuple[Part, Run]], part: Part, chosen: list[int]) -> tuple[int, ...]:
    """Return x, y, w, h of what the pictures show, whole px, of the shape of a picture and inside the frame."""
    frame = np.array(part.sequence.size())
    truth = part.sequence.boxes[chosen]
    shown = np.vstack([truth, *(made[name][1].boxes[chosen] for name in loss.trackers)])
    shown = shown[present(shown)]
    low, high = np.clip([shown[:, :2].min(axis=0), (shown[:, :2] + shown[:, 2:]).max(axis=0)], 0, frame)
    shape = PICTURE[0] / PICTURE[1]
    across = max(*(1.15 * (high - low) * (1, shape)), AROUND * np.nanmax(truth[:, 2:], initial=8.0))
    across = min(across, frame[0], frame[1] * shape)
    size = np.array([across, across / shape])
    corner = np.clip((low + high - size) / 2, 0, frame - size)
    x, y = (int(value) for value in corner)
    w, h = (max(int(value), 1) for value in size)
    return x, y, w, h


def _rectangle(image: Any, box: Floats, window: tuple[int, ...], colour: str, thick: int, edge: bool) -> None:
    """Draw a box given in frame px, with a dark edge or without; mutates image."""
    if not np.isfinite(box).all():
        return
    corners = (np.array([box[:2], box[:2] + box[2:]]) - window[:2]) * PICTURE / window[2:]
    (x0, y0), (x1, y1) = np.clip(np.round(corners), -1e5, 1e5).astype(int).tolist()
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    if edge:
        cv2.rectangle(image, (x0, y0), (x1, y1), (0, 0, 0), thick + 2)
    cv2.rectangle(image, (x0, y0), (x1, y1), (blue, green, red), thick)
