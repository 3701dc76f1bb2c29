"""The numbers of a report as tables: text for a terminal, CSV, LaTeX, Markdown.

Every mean over sequences stands with its 95 % interval. Bold is only what is distinguishable from every other tracker.
"""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tracker.benchmark.judge.certainty import Interval
from tracker.benchmark.judge.rules import Rule
from tracker.benchmark.judge.scores import PERCENTILES, STAGES, SequenceScore, TrackerScore
from tracker.benchmark.protocols import Protocol
from tracker.footage.sequence import Sequence

CLOCKED = ("realtime", "streaming")  # protocols in which a slow tracker misses frames
LOADED = 1.0  # processes that want a core: with more of them, times are those of waiting, too


class Column(NamedTuple):
    """One measure of a tracker: headings, its name in `TrackerScore.values` or a latency, format, what it is.

    better: 1 more, -1 less, 0 neither. percent: the percentile, of a latency; 0 for measures.
    """

    heading: str
    latex: str
    name: str
    form: str
    meaning: str
    better: int
    percent: int = 0

    def read(self, score: TrackerScore) -> float:
        """Return the number, NaN where the tracker has none."""
        if self.percent:
            return score.latency_ms.get("update", {}).get(f"p{self.percent}", math.nan)
        return score.values.get(self.name, math.nan)

    def show(self, score: TrackerScore) -> str:
        """Return the number as text; a latency of a loaded machine with a question mark."""
        text = number(self.read(score), self.form)
        return text + "?" if self.percent and text != "-" and score.load > LOADED else text

    def span(self, score: TrackerScore) -> str:
        """Return the 95 % interval as text, "" where there is none."""
        found = score.intervals.get(self.name)
        return span(found, self.form) if found else ""

    def is_best(self, score: TrackerScore) -> bool:
        """Whether the tracker is distinguishable from every other one here."""
        return self.name in score.best


def span(interval: Interval, form: str) -> str:
    """Return an interval as text, "" where it cannot be said."""
    if not math.isfinite(interval.low):
        return ""
    return f"[{format(interval.low, form)}, {format(interval.high, form)}]"


class Measure(NamedTuple):
    """One measure of a tracker on a sequence: heading, field of `SequenceScore`, format; better: 1 more, -1 less, 0."""

    heading: str
    key: str
    form: str
    better: int


SEQUENCE_MEASURES = (
    Measure("success AUC", "success_auc", ".3f", 1),
    Measure("precision @20 px", "precision_20", ".3f", 1),
    Measure("norm. precision @0.2", "normalised_precision_20", ".3f", 1),
    Measure("average overlap", "average_overlap", ".3f", 1),
    Measure("losses", "losses", ".0f", -1),
    Measure("update ms, p50", "ms_p50", ".2f", 0),
)


def is_vot(protocol: Protocol) -> bool:
    """Return whether EAO, accuracy and robustness judge a protocol."""
    return protocol in ("supervised", "anchors")


def columns(protocol: Protocol, rule: Rule) -> list[Column]:
    """Return the measures of a protocol, the one that ranks first."""

    def latency(percent: int) -> Column:
        meaning = f"milliseconds of one update without decoding, {percent}th percentile"
        return Column(f"ms p{percent}", f"ms p{percent}", "", ".2f", meaning, 0, percent)

    common = [
        Column("mean rank", "rank", "mean_rank", ".2f", "mean over sequences of the rank, 1 is best", -1),
        Column("score AUC", "score", "score_auc", ".3f",
               "chance that a frame on target (overlap > 0.5) has a higher score than one off target (at most 0.1, or "
               "the target absent): 1 tells them apart, 0.5 says nothing", 1),
        Column("losses", "losses", "losses", ".0f", "overlap at most 0.1 for 10 frames in a row", -1),
        latency(50),
        latency(95),
    ]  # fmt: skip
    if is_vot(protocol):
        fewer = protocol == "supervised"
        meaning = "failures a sequence, weighted by length" if fewer else "share of frames before the failure"
        per_100 = Column("failures/100", "R$_{100}$", "vot_per_100", ".3f", "failures in 100 frames", -1)
        return [
            Column("EAO", "EAO", "vot_eao", ".3f", "expected average overlap", 1),
            Column("accuracy", "A", "vot_accuracy", ".3f", "mean overlap while tracking", 1),
            Column("robustness", "R", "vot_robustness", ".3f", meaning, -1 if fewer else 1),
            *([per_100] if fewer else []),
            Column("failures", "failures", "vot_failures", ".0f", "runs or restarts in all", -1),
            common[0],
            *common[3:],
        ]
    if protocol == "longterm":
        return [
            Column("F", "F", "long_term_f", ".3f", "best F over the confidence thresholds", 1),
            Column("precision", "Pr", "long_term_precision", ".3f", "there: mean overlap of its boxes", 1),
            Column("recall", "Re", "long_term_recall", ".3f", "there: overlap a visible frame", 1),
            Column("TPR", "TPR", "tpr", ".3f", "OxUvA: frames with the target, found, not called lost", 1),
            Column("TNR", "TNR", "tnr", ".3f", "OxUvA: frames without the target that are called lost", 1),
            Column("max GM", "GM", "max_gm", ".3f", "OxUvA: geometric mean of both, best over coins that say lost", 1),
            Column("threshold", "threshold", "long_term_threshold", ".3f", "the score of that place", 0),
            *common,
        ]
    measured = [
        Column("success AUC", "AUC", "success_auc", ".3f", "mean of the success curve, 21 thresholds", 1),
        Column("success @0.5", r"SR$_{0.5}$", "success_rate_50", ".3f", "frames with overlap 0.5", 1),
        Column("precision @20 px", r"P$_{20}$", "precision_20", ".3f", "centre at most 20 px away", 1),
        Column("norm. precision @0.2", r"NP$_{0.2}$", "normalised_precision_20", ".3f", "LaSOT's", 1),
        Column("TrackingNet success", "AUC$^{T}$", "trackingnet_success", ".3f", "of its devkit: whole pixels", 1),
        Column("TrackingNet precision", "P$^{T}$", "trackingnet_precision", ".3f",
               "of its devkit: area under the curve from 0 to 50 px", 1),
        Column("norm. precision AUC", "NP$^{T}$", "trackingnet_normalised_precision", ".3f",
               "TrackingNet's, of its devkit: area under the curve from 0 to 0.5", 1),
        Column("AO", "AO", "average_overlap", ".3f", "GOT-10k: mean overlap of frames after the first", 1),
        Column("SR 0.5", r"SR$^{G}_{0.5}$", "got10k_sr50", ".3f", "GOT-10k: share of them above 0.5", 1),
        Column("SR 0.75", r"SR$^{G}_{0.75}$", "got10k_sr75", ".3f", "GOT-10k: share of them above 0.75", 1),
        Column("mAO", "mAO", "class_balanced_overlap", ".3f", "GOT-10k: mean over its classes of their mean AO", 1),
    ]  # fmt: skip
    if protocol in CLOCKED:
        measured[1:1] = [
            Column("without a clock", "offline", "offline_auc", ".3f",
                   "success AUC of the runs under ope in the same folder", 1),
            Column("frames seen", "seen", "seen", ".3f", "share of the frames that it had time for", 0),
        ]  # fmt: skip
    special = {"trackingnet_success", "trackingnet_precision", "class_balanced_overlap"} - set(rule.first)
    measured = [column for column in measured if column.name not in special]
    return sorted(measured, key=lambda column: column.name not in rule.first) + common


def number(value: float, form: str) -> str:
    """Return a number as text, "-" for one that is not finite."""
    return format(value, form) if math.isfinite(value) else "-"


def against(score: TrackerScore) -> str:
    """Return the difference from the tracker it is held against, with interval, wins and losses; "" where none."""
    found = score.difference
    if found is None or not math.isfinite(found.value):
        return ""
    low, high = found.interval
    interval = f" [{low:+.3f}, {high:+.3f}]" if math.isfinite(low) else ""
    return f"{found.value:+.3f}{interval} {found.wins}:{found.losses}"


def text_table(scores: list[TrackerScore], measured: list[Column], other: str) -> str:
    """Return the table for a terminal; other: the tracker that the others are held against, "" for none."""
    rows = [["tracker", measured[0].heading, "95 %", *(column.heading for column in measured[1:])]]
    rows[0] += [f"above {other}, wins:losses"] if other else []
    for score in scores:
        first, *more = measured
        texts = [score.name, first.show(score), first.span(score), *(column.show(score) for column in more)]
        rows.append(texts + ([against(score)] if other else []))
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        lines.append("  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]))
    return "\n".join(lines)


def latex_table(scores: list[TrackerScore], measured: list[Column], protocol: Protocol, rule: Rule, other: str) -> str:
    """Return the table as a LaTeX tabular: the first measure with its interval, bold where distinguishable."""
    count = max((score.judged for score in scores), default=0)
    lines = [
        f"% protocol {protocol}, success rule {rule.name}, {count} sequences; 95 % bootstrap intervals over sequences",
        rf"\begin{{tabular}}{{l{'r' * (len(measured) + bool(other))}}}", r"\hline",
    ]  # fmt: skip
    head = ["Tracker", *(column.latex for column in measured), *([f"above {_latex(other)}"] if other else [])]
    lines += [rf"{' & '.join(head)} \\", r"\hline"]
    for score in scores:
        cells = [rf"\textbf{{{c.show(score)}}}" if c.is_best(score) else c.show(score) for c in measured]
        interval = measured[0].span(score)
        cells[0] += rf" {{\scriptsize {interval}}}" if interval else ""
        cells += [against(score)] if other else []
        lines.append(rf"{' & '.join([_latex(score.name), *cells])} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _latex(text: str) -> str:
    special = {character: "\\" + character for character in "&%$#_{}"} | {"\\": r"\textbackslash{}"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(character, character) for character in text)


def trackers_csv(scores: list[TrackerScore], measured: list[Column], other: str) -> str:
    """Return the measures of each tracker as CSV: each with the ends of its interval, latency of every stage."""
    measured = [column for column in measured if not column.percent]
    stages = [(stage, f"p{p}") for stage in (*STAGES, "init") for p in PERCENTILES]
    head = ["tracker", "sequences"]
    for column in measured:
        head += [column.heading, f"{column.heading} low", f"{column.heading} high"]
    head += ["held against", "difference", "difference low", "difference high", "wins", "losses of the comparison"]
    rows: list[list[Any]] = [[*head, *(f"{stage} ms {p}" for stage, p in stages), "load a core"]]
    for score in scores:
        row: list[Any] = [score.name, score.judged]
        for column in measured:
            row += [column.read(score), *score.intervals.get(column.name, (math.nan, math.nan))]
        found = score.difference
        row += [other, found.value, *found.interval, found.wins, found.losses] if found else ["", *[math.nan] * 5]
        row += [*(score.latency_ms.get(stage, {}).get(p, math.nan) for stage, p in stages), score.load]
        rows.append([_cell(value) for value in row])
    return _csv(rows)


def sequences_csv(scores: list[TrackerScore]) -> str:
    """Return the measures of each tracker on each sequence as CSV."""
    names = list(SequenceScore.__dataclass_fields__)
    rows: list[list[Any]] = [["tracker", "sequence", *names]]
    for score in scores:
        rows += [
            [score.name, name, *(_cell(getattr(row, key)) for key in names)] for name, row in score.sequences.items()
        ]
    return _csv(rows)


def _csv(rows: list[list[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([harmless(cell) for cell in row] for row in rows)
    return file.getvalue()


def harmless(cell: str) -> str:
    """A cell that a spreadsheet takes for text, where it begins as a formula does and is no number."""
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def by_attribute(
    scores: list[TrackerScore], sequences: list[Sequence], key: str
) -> Iterator[tuple[str, int, list[float]]]:
    """Yield each attribute, the number of sequences that have it, and the mean of a measure over them by tracker."""
    for attribute in sorted({name for sequence in sequences for name in sequence.attributes}):
        having = [sequence.name for sequence in sequences if attribute in sequence.attributes]
        rows = [np.array([getattr(score.sequences[name], key) for name in having], float) for score in scores]
        yield attribute, len(having), [float(row[np.isfinite(row)].mean()) if row.size else math.nan for row in rows]


def by_tag(scores: list[TrackerScore]) -> Iterator[tuple[str, int, list[str]]]:
    """Yield each tag of frames, how many frames have it, and of each tracker the mean overlap and failures there."""
    for tag in sorted({name for score in scores for name in score.tags}):
        found = [score.tags[tag] for score in scores]
        cells = [f"{number(one.overlap, '.3f')}, {one.failures}" for one in found]
        yield tag, max(one.frames for one in found), cells


TAG_HEADING = "Mean overlap and failures in the frames that have a tag"


def markdown(
    scores: list[TrackerScore],
    sequences: list[Sequence],
    measured: list[Column],
    other: str,
    verdict: list[str],
    facts: dict[str, dict[str, Any]],
) -> str:
    """Return the tables for a document: verdict, measures, sequences, attributes, latency of each stage, facts.

    other: the tracker that the others are held against. facts: what to say of the run and of the machine, by title.
    """
    names = [score.name for score in scores]
    parts = ["\n".join(f"- {line}" for line in verdict)]
    rows = []
    for score in scores:
        cells = [f"**{c.show(score)}**" if c.is_best(score) else c.show(score) for c in measured]
        cells[0] = f"{cells[0]} {measured[0].span(score)}".strip()
        rows.append([score.name, *cells, *([against(score)] if other else [])])
    head = ["tracker", *(c.heading for c in measured), *([f"above {other}, wins:losses"] if other else [])]
    parts.append(_markdown(head, rows))
    measure = SEQUENCE_MEASURES[0]
    rows = []
    for sequence in sequences:
        values = [float(getattr(score.sequences[sequence.name], measure.key)) for score in scores]
        rows.append([sequence.name, str(len(sequence)), *(number(value, measure.form) for value in values)])
    parts += [f"{measure.heading} of each sequence:", _markdown(["sequence", "frames", *names], rows)]
    rows = [
        [name, str(count), *(number(value, measure.form) for value in values)]
        for name, count, values in by_attribute(scores, sequences, measure.key)
    ]
    if rows:
        parts += [f"{measure.heading} by attribute:", _markdown(["attribute", "sequences", *names], rows)]
    rows = [[name, str(count), *cells] for name, count, cells in by_tag(scores)]
    if rows:
        parts += [f"{TAG_HEADING}:", _markdown(["tag", "frames counted, at most", *names], rows)]
    stages = list(STAGES)
    times = [
        [
            score.name,
            *(" / ".join(number(score.latency_ms.get(stage, {}).get(f"p{p}", math.nan), ".2f") for p in PERCENTILES)
              for stage in stages),
        ]
        for score in scores
    ]  # fmt: skip
    parts += ["Milliseconds of one update and of its stages, p50 / p95 / p99:", _markdown(["tracker", *stages], times)]
    for title, lines in facts.items():
        parts.append("\n".join([f"{title}:", "", *(f"- {key}: `{value}`" for key, value in lines.items())]))
    return "\n\n".join(parts) + "\n"


def _markdown(head: list[str], rows: Any) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
