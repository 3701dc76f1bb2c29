"""How a data set's own toolkit judges a frame: one rule for each, by name, and the table of them.

A rule says which overlap is a success, which rows of the truth count, and what becomes of frames that do not count:
the target is absent there, or (OTB) its box begins outside the image.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.benchmark.judge import metrics
from tracker.footage.files import Floats, present

Uncounted = Literal["left out", "failed", "failed, but precise"]


@dataclass(frozen=True)
class Rule:
    """How frames are judged.

    strict: a frame succeeds at threshold t when IoU > t; else when IoU >= t and the boxes overlap at all.
    lowest: a row of the truth counts when x and y, counted from 1, are at least this; None: wherever it is.
    uncounted: what becomes of frames whose truth does not count: left out of every measure; failed in every measure,
        so that they stay in the denominator; or failed in the success curve and a hit in the precision curves.
    repeats: a row without a box takes the one before it; else it fails.
    given: the first box of the tracker, which was given, is replaced by the truth.
    matlab: thresholds as Matlab's 0:0.05:1 rounds them, which moves frames that lie exactly on one.
    source: where the rule is written down.
    first: the measures that its authors print, which come first in a table.
    """

    name: str
    strict: bool
    uncounted: Uncounted
    source: str
    lowest: float | None = None
    repeats: bool = False
    given: bool = True
    matlab: bool = False
    first: tuple[str, ...] = ()

    @property
    def reads(self) -> str:
        """What a perfect run reads."""
        return "strict >, a perfect run reads 0.952" if self.strict else "a perfect run reads 1.0"

    @property
    def thresholds(self) -> Floats:
        """The 21 thresholds of the success curve."""
        if not self.matlab:
            return metrics.SUCCESS_THRESHOLDS
        up = np.arange(11) * 0.05
        return np.concatenate([up, 1 - up[9::-1]])

    def success_curve(self, overlaps: ArrayLike) -> Floats:
        """Return the share of frames that succeed at each of the 21 thresholds; overlaps as `judge` gives them."""
        return metrics.success_curve(overlaps, "strict" if self.strict else "inclusive", self.thresholds)


# What the toolkits do was read in their code; docs/benchmark.md holds it against published numbers.
RULES = {
    rule.name: rule
    for rule in (
        Rule("inclusive", False, "left out", "this project: a perfect run reads 1.0"),
        Rule("strict", True, "left out", "OTB's success (Wu, Lim, Yang, CVPR 2013) on the frames with a truth"),
        Rule("otb", True, "failed, but precise", "tracker_benchmark_v1.0 (OTB), calcSeqErrRobust.m and perfPlot.m",
             lowest=1e-9, repeats=True, matlab=True),
        Rule("uav123", True, "failed, but precise", "the toolkit of UAV123 and UAV20L, which is OTB's",
             lowest=1e-9, repeats=True, matlab=True),
        Rule("lasot", True, "failed", "LaSOT_Evaluation_Toolkit, calc_seq_err_robust.m and eval_tracker.m",
             lowest=None, repeats=True, matlab=True),
        Rule("uavdt", True, "failed", "tracker_benchmark_v1.0_UAVDT (Du et al., ECCV 2018), calcSeqErrRobust.m",
             lowest=1e-9, given=False, matlab=True),
        Rule("got10k", True, "left out", "got10k toolkit, ExperimentGOT10k; mAO as in Huang et al., TPAMI 2019",
             first=("average_overlap", "got10k_sr50", "got10k_sr75", "class_balanced_overlap")),
        Rule("trackingnet", True, "left out", "TrackingNet-devkit, metrics.py: rounded boxes, trapezes over 21 points",
             first=("trackingnet_success", "trackingnet_precision", "trackingnet_normalised_precision")),
    )
}  # fmt: skip


# The rule of a layout's authors; for the others, and where --rule says otherwise: inclusive.
RULE_OF = {
    "otb": "otb", "otb2013": "otb", "otb50": "otb", "otb100": "otb", "tc128": "otb", "uav123": "uav123",
    "uav20l": "uav123", "lasot": "lasot", "avist": "lasot", "uavdt": "uavdt", "got10k": "got10k",
    "trackingnet": "trackingnet", "nfs30": "strict", "nfs240": "strict", "tnl2k": "strict", "vasttrack": "strict",
    "visdrone": "strict", "clips": "strict",
}  # fmt: skip


class Judged(NamedTuple):
    """What a rule makes of each frame, (N,) each; NaN: left out.

    overlap: [0, 1]. error: px, 0 for a hit and inf for a miss. normalised: the error in units of the target.
    """

    overlap: Floats
    error: Floats
    normalised: Floats


def judge(predicted: ArrayLike, truth: ArrayLike, rule: Rule, missing: NDArray[np.bool_] | None = None) -> Judged:
    """Judge each frame of one run.

    predicted, truth: (N, 4) x, y, w, h, 0-based px; a truth row of NaN is an absent target.
    missing: (N,) frames that the tracker did not process, which fail whatever the rule repeats; None: none.
    A sequence of which only the first frame has a truth was not judged at all: NaN everywhere.
    ValueError: shapes differ or are not (N, 4).
    """
    boxes, rows = (array.copy() for array in metrics.pair(predicted, truth))
    there = present(rows)
    if len(rows) > 1 and not there[1:].any():
        nothing = np.full(len(rows), np.nan)
        return Judged(nothing, nothing, nothing)
    if rule.repeats:
        boxes = _repeat(boxes, there, np.zeros(len(boxes), bool) if missing is None else missing)
    counted = there.copy()
    if rule.lowest is not None:
        with np.errstate(invalid="ignore"):
            counted &= (rows[:, :2] + 1 >= rule.lowest).all(axis=1)
    rows[~counted] = np.nan
    found = [metrics.iou(boxes, rows), metrics.center_error(boxes, rows), metrics.normalised_center_error(boxes, rows)]
    if rule.uncounted != "left out":
        found[0][~counted] = 0.0
        for errors in found[1:]:
            errors[~counted] = 0.0 if rule.uncounted == "failed, but precise" else np.inf
    return Judged(*found)


def _repeat(boxes: Floats, there: NDArray[np.bool_], missing: NDArray[np.bool_]) -> Floats:
    """Return the boxes with each that has no area replaced by the one before it, where there is a truth."""
    empty = ~present(boxes) & there & ~missing
    for index in np.flatnonzero(empty[1:]) + 1:
        boxes[index] = boxes[index - 1]
    return boxes


def table() -> str:
    """Return the rules as text for a terminal."""
    heads = ("rule", "success", "frames that do not count", "counts where", "rows without a box", "source")
    lines = [heads]
    for rule in RULES.values():
        lines.append((
            rule.name,
            "IoU > t" if rule.strict else "IoU >= t",
            rule.uncounted,
            "the target is present" + (", x and y above 0 from 1" if rule.lowest is not None else ""),
            "repeat the one before" if rule.repeats else "fail",
            rule.source,
        ))  # fmt: skip
    wide = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(text.ljust(size) for text, size in zip(line, wide, strict=True)).rstrip() for line in lines
    )


def default_rules() -> str:
    """Return which layouts have which rule by default, as text."""
    lines = []
    for name in RULES:
        layouts = [layout for layout, rule in RULE_OF.items() if rule == name]
        lines.append(f"{name}: {', '.join(layouts)}" if layouts else f"{name}: all others")
    return "By default:\n" + "\n".join(f"  {line}" for line in lines)
