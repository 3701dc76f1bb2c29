"""How well a network tells same from different: pairs, thresholds, one-shot classification, and their plots."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tracker.benchmark.judge.certainty import interval, mean_of
from tracker.benchmark.judge.fates import calibration_error
from tracker.errors import InputError, MissingError
from tracker.extras import how_to_get
from tracker.footage.output import write_whole
from tracker.similarity import FARS, SimilarityConfig, SimilarityNet, to_input
from train.similarity.data import ImageSet, OneShotRun

Scores = NDArray[np.float64]
Index = NDArray[np.int64]
CHUNK = 64  # images or pairs a pass
LEAST_ALARMS = 5
ROC_FARS = np.geomspace(0.001, 1, 61).round(9)  # of the ROC curve of claims; 0.1 is 0.1, whatever NumPy's powers are


class PixelDistance(nn.Module):
    """The baseline: minus the Euclidean distance of the pixels."""

    def __init__(self, config: SimilarityConfig) -> None:
        super().__init__()
        self.config = config

    def embed(self, images: Tensor, second: bool = False) -> Tensor:
        """(N, C, H, W) -> (N, C H W)."""
        return images.flatten(1)

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        """Scores (N,) of the rows."""
        return -torch.linalg.vector_norm(a - b, dim=1)


Net = SimilarityNet | PixelDistance


# --- curves of pairs -------------------------------------------------------------------------------------------------


class Roc(NamedTuple):
    """Points of the ROC curve, from (0, 0) to (1, 1): false and true positive rate at score >= threshold."""

    fpr: Scores
    tpr: Scores
    thresholds: Scores


def roc(scores: Scores, same: NDArray[np.bool_]) -> Roc:
    """The ROC curve; equal scores make one point. scores, same: (N,). Raises ValueError: not both kinds of pairs."""
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if scores.shape != same.shape or same.all() or not same.any():
        raise InputError("a ROC curve needs pairs that are the same and pairs that are not, with a score for each")
    if not np.isfinite(scores).all():
        raise InputError("scores must be finite")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(same[order])[ends]
    alarms = ends + 1 - hits
    thresholds = np.append(np.inf, scores[order][ends])
    return Roc(np.append(0, alarms) / (~same).sum(), np.append(0, hits) / same.sum(), thresholds)


def auc(curve: Roc) -> float:
    """Area under the curve: the chance that a same pair scores higher than a different one, ties counting half."""
    return float(np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2))


def auc_interval(scores: Scores, same: NDArray[np.bool_], owners: Index, drawn: int = 500) -> tuple[float, float]:
    """The 95 % interval of the area when owners (of each pair a group, say) are drawn anew, as many as there are.

    A draw with one kind of pairs only is left out. owners: (N,). (nan, nan) where all have one owner.
    """
    rng, rows = np.random.default_rng(0), [np.flatnonzero(owners == o) for o in np.unique(owners)]
    if len(rows) < 2:
        return float("nan"), float("nan")
    areas = []
    for _ in range(drawn):
        some = np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])
        if same[some].any() and not same[some].all():
            areas.append(auc(roc(scores[some], same[some])))
    low, high = np.percentile(areas, (2.5, 97.5)).tolist()
    return low, high


def equal_error_rate(curve: Roc) -> float:
    """Where false alarms are as frequent as misses, on straight lines between the points."""
    gap = curve.fpr - (1 - curve.tpr)  # rises from -1 to 1
    k = int(np.searchsorted(gap, 0.0))
    if gap[k] == 0 or k == 0:
        return float(curve.fpr[k])
    share = -gap[k - 1] / (gap[k] - gap[k - 1])
    return float(curve.fpr[k - 1] + share * (curve.fpr[k] - curve.fpr[k - 1]))


def fpr_at_recall(curve: Roc, recall: float = 0.95) -> float:
    """False positive rate at the highest threshold that finds `recall` of the same pairs."""
    return float(curve.fpr[np.searchsorted(curve.tpr, recall - 1e-12)])


def best_threshold(scores: Scores, same: NDArray[np.bool_]) -> float:
    """The threshold with the highest accuracy, amid its neighbouring scores. Choose it on validation data."""
    curve = roc(scores, same)
    n, total = int(np.sum(same)), len(same)
    right = curve.tpr * n + (1 - curve.fpr) * (total - n)
    k = int(right.argmax())
    high = curve.thresholds[k]
    if not np.isfinite(high):  # nothing is the same
        return float(np.nextafter(curve.thresholds[1], np.inf))
    return float(high if k + 1 == len(right) else (high + curve.thresholds[k + 1]) / 2)


def far_thresholds(scores: Scores, same: NDArray[np.bool_]) -> tuple[float, ...]:
    """For each of `FARS`, the lowest threshold that no larger share of the different pairs reaches.

    As far as `LEAST_ALARMS` of them may reach it: fewer say nothing of a share.
    """
    others = np.sort(np.asarray(scores, np.float64)[~np.asarray(same, bool)])[::-1]
    return tuple(
        float(np.nextafter(others[int(far * len(others))], np.inf)) for far in FARS if far * len(others) >= LEAST_ALARMS
    )


def accuracy(scores: Scores, same: NDArray[np.bool_], threshold: float) -> float:
    """Share of right decisions `score >= threshold`."""
    return float(np.mean((np.asarray(scores) >= threshold) == np.asarray(same, bool)))


def kinds(images: ImageSet, first: Index, second: Index, same: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Which of the different pairs are a target and a background, targets of one group, targets of two: (N,) each."""
    background = second >= len(images.images)
    group = images.groups[images.labels]
    near = ~same & ~background & (group[first] == group[np.where(background, first, second)])
    return {"background": background, "group": near, "other": ~(same | background | near)}


# --- scores of a network ---------------------------------------------------------------------------------------------


def draw_pairs(images: ImageSet, count: int, rng: np.random.Generator) -> tuple[Index, Index, NDArray[np.bool_]]:
    """First and second image of `count` pairs, every other one of the same class.

    Where there are backgrounds, the different ones are in turn: a target and a background beside it, two targets of one
    group (as far as there are), any two. Raises ValueError for fewer than two classes or no class with two images.
    """
    often = [own for own in images.by_class if len(own) > 1]
    if len(images.names) < 2 or not often:
        raise InputError(f"pairs need two classes and two images in one of them; got {images}")
    rows = []
    for k in range(count):
        if k % 2 == 0:
            own = often[rng.integers(len(often))]
            rows.append(rng.choice(own, 2, replace=False))
            continue
        c, d = rng.choice(len(images.names), 2, replace=False)
        near = np.flatnonzero((images.groups == images.groups[c]) & (np.arange(len(images.names)) != c))
        if images.beside and k % 6 == 3 and len(near):
            d = rng.choice(near)
        second = rng.choice(images.by_class[d])
        if images.beside and k % 6 == 1:
            second = rng.choice(images.backgrounds(rng.choice(images.by_class[c])))
        rows.append(np.array([rng.choice(images.by_class[c]), second]))
    first, second = np.array(rows).T
    return first, second, np.arange(count) % 2 == 0


@torch.inference_mode()
def embed_all(net: Net, images: Sequence[NDArray[np.uint8] | str], second: bool = False) -> Tensor:
    """Features of images, each scaled to the network's size, or of words."""
    side = net.config.side(second)
    parts = []
    for low in range(0, len(images), CHUNK):
        seen = torch.cat([to_input(image, side) for image in images[low : low + CHUNK]])
        parts.append(net.embed(seen, second))
    return torch.cat(parts)


@torch.inference_mode()
def join_all(net: Net, a: Tensor, b: Tensor, first: Index, second: Index) -> Scores:
    """Raw scores of the rows `first` of a with the rows `second` of b."""
    i, j = torch.from_numpy(first), torch.from_numpy(second)
    rows = [net.join(a[i[k : k + CHUNK]], b[j[k : k + CHUNK]]) for k in range(0, len(i), CHUNK)]
    return torch.cat(rows).double().numpy()


def score_pairs(net: Net, images: ImageSet, first: Index, second: Index) -> Scores:
    """Raw scores of pairs of images; each image is embedded once for each side it is on."""
    sides = []
    for index, is_second in ((first, False), (second, True)):
        used, row = np.unique(index, return_inverse=True)
        side = net.config.side(is_second)
        sides.append((embed_all(net, [images.seen_by(side, i) for i in used.tolist()], is_second), row))
    (a, i), (b, j) = sides
    return join_all(net, a, b, i, j)


def classes_to_choose(images: ImageSet, ways: int) -> list[Index]:
    """The classes that a one-shot trial may take, of one group where groups are large enough; one list a group.

    Raises ValueError: too few classes.
    """
    often = np.array([len(own) > 1 for own in images.by_class])
    groups = [np.flatnonzero(images.groups == g) for g in np.unique(images.groups)]
    groups = [g for g in groups if len(g) >= ways and often[g].any()] or [np.arange(len(images.names))]
    if len(groups[0]) < ways or not often.any():
        raise InputError(f"{ways}-way one-shot needs {ways} classes, one of them with two images; got {images}")
    return groups


def one_shot(net: Net, images: ImageSet, ways: int, trials: int, rng: np.random.Generator) -> float:
    """Accuracy of finding the class of a query among `ways` references, one a class (Koch et al. 2015, section 4.3).

    Raises as `classes_to_choose` does.
    """
    often = np.array([len(own) > 1 for own in images.by_class])
    groups = classes_to_choose(images, ways)
    queries, references = np.empty(trials, np.int64), np.empty((trials, ways), np.int64)
    for t in range(trials):
        group = groups[rng.integers(len(groups))]
        right = rng.choice(group[often[group]])
        others = rng.choice(group[group != right], ways - 1, replace=False)
        queries[t], references[t, 0] = rng.choice(images.by_class[right], 2, replace=False)
        references[t, 1:] = [rng.choice(images.by_class[c]) for c in others]
    scores = score_pairs(net, images, np.repeat(queries, ways), references.ravel()).reshape(trials, ways)
    return _share_won(scores, np.zeros(trials, np.int64))


def k_shot(
    net: SimilarityNet, images: ImageSet, shots: int, ways: int, trials: int, rng: np.random.Generator
) -> dict[str, list[bool]]:
    """Which of the trials are won when each of `ways` classes has `shots` references, by what the class is judged.

    nearest: its best reference; mean, attention: one feature, see `SimilarityNet.pooled`. The classes of a trial come
    from one group where groups are large enough. Raises ValueError: too few classes with more images than that.
    """
    able = np.array([len(own) > shots for own in images.by_class])
    groups = [np.flatnonzero(able & (images.groups == g)) for g in np.unique(images.groups)]
    groups = [g for g in groups if len(g) >= ways] or [np.flatnonzero(able)]
    if len(groups[0]) < ways:
        raise InputError(f"{ways} classes with more than {shots} images are needed; got {images}")
    sides = [[images.seen_by(net.config.side(s), i) for i in range(len(images.images))] for s in (False, True)]
    first, second = embed_all(net, sides[0]), embed_all(net, sides[1], second=True)
    won: dict[str, list[bool]] = {"nearest": [], "mean": [], "attention": []}
    for _ in range(trials):
        chosen = rng.choice(groups[rng.integers(len(groups))], ways, replace=False)
        own = [rng.choice(images.by_class[c], shots + 1, replace=False) for c in chosen]
        query, references = first[own[0][-1:]], [second[torch.from_numpy(rows[:shots])] for rows in own]
        for by, right in won.items():
            with torch.inference_mode():
                if by == "nearest":
                    scores = [float(net.join(query.expand(shots, -1), some).max()) for some in references]
                else:
                    scores = [float(net.join(query, net.pooled(query, some, by))) for some in references]  # type: ignore[arg-type]
            right.append(int(np.argmax(scores)) == 0)
    return won


class Claims(NamedTuple):
    """Claims of identity: their scores, which of them are true, and the class that each claims to be."""

    scores: Scores
    same: NDArray[np.bool_]
    claimed: Index


def claims(net: Net, images: ImageSet, enrol: int, rounds: int, rng: np.random.Generator) -> Claims:
    """A verification: in each of so many rounds, `enrol` images of a class are enrolled, and others claim to be of it.

    For every class with more images than that, one of its other images claims truly, and one of another class of its
    group (where there is one, else of any) falsely. The score is the mean of the raw scores with those enrolled.
    Raises ValueError: no class has images enough, or there is only one.
    """
    able = [c for c, own in enumerate(images.by_class) if len(own) > enrol]
    if not able or len(images.names) < 2 or enrol < 1:
        raise InputError(f"enrolling {enrol} images needs a class with more, and another class; got {images}")
    queries, enrolled, claimed = [], [], []
    for _ in range(rounds):
        for c in able:
            own = rng.permutation(images.by_class[c])
            near = np.flatnonzero((images.groups == images.groups[c]) & (np.arange(len(images.names)) != c))
            others = near if len(near) else np.delete(np.arange(len(images.names)), c)
            queries += [own[enrol], rng.choice(images.by_class[rng.choice(others)])]
            enrolled += [own[:enrol]] * 2
            claimed += [c, c]
    first, second = np.repeat(queries, enrol), np.concatenate(enrolled)
    scores = score_pairs(net, images, first, second).reshape(-1, enrol).mean(1)
    return Claims(scores, np.arange(len(scores)) % 2 == 0, np.array(claimed))


def verification(found: Claims, drawn: int = 200) -> dict[str, Any]:
    """Equal error rate with its 95 % interval (classes drawn anew), the share of true claims accepted at each of
    `FARS`, and at each of `ROC_FARS` for a curve.
    """
    curve = roc(found.scores, found.same)
    rng, rows = np.random.default_rng(0), [np.flatnonzero(found.claimed == c) for c in np.unique(found.claimed)]
    errors = []
    for _ in range(drawn):
        some = np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])
        errors.append(equal_error_rate(roc(found.scores[some], found.same[some])))
    low, high = np.percentile(errors, (2.5, 97.5)).tolist()
    of_far = [float(curve.tpr[np.searchsorted(curve.fpr, far, "right") - 1]) for far in (*FARS, *ROC_FARS)]
    return {
        "equal_error_rate": equal_error_rate(curve),
        "equal_error_rate_95": [low, high],
        "tar_at_far": {f"{far:g}": tar for far, tar in zip(FARS, of_far, strict=False)},
        "tar": of_far[len(FARS) :],
    }


def one_shot_runs(net: Net, runs: Sequence[OneShotRun]) -> list[float]:
    """Accuracy over the queries of each published run."""
    shares = []
    for queries, references, answers in runs:
        a, b = embed_all(net, queries), embed_all(net, references, second=True)
        i, j = np.divmod(np.arange(len(queries) * len(references)), len(references))
        shares.append(_share_won(join_all(net, a, b, i, j).reshape(len(queries), -1), answers))
    return shares


def _share_won(scores: Scores, answers: Index) -> float:
    """Share of rows whose highest score is that of the answer; k equal highest ones count 1 / k."""
    best = scores == scores.max(1, keepdims=True)
    return float((best[np.arange(len(scores)), answers] / best.sum(1)).mean())


# --- report ----------------------------------------------------------------------------------------------------------


class PairScores(NamedTuple):
    """Raw scores of test pairs and which of them are the same."""

    scores: Scores
    same: NDArray[np.bool_]


def evaluate(
    net: Net,
    images: ImageSet | None,
    pairs: int,
    ways: Sequence[int],
    trials: int,
    seed: int = 0,
    runs: Sequence[OneShotRun] = (),
    enrol: Sequence[int] = (),
    shots: Sequence[int] = (),
) -> tuple[dict[str, Any], PairScores | None]:
    """All figures of a network on unseen images, and the scores of the pairs; every network sees the same draws.

    The accuracy is that at the threshold of the network's config, which was chosen on validation data; it is left out
    for the pixel baseline. Raises ValueError when a network has none.
    """
    found: dict[str, Any] = {}
    kept = None
    if images is not None:
        first, second, same = draw_pairs(images, pairs, np.random.default_rng((seed, 2)))
        kept = PairScores(score_pairs(net, images, first, second), same)
        curve = roc(*kept)
        found |= {"auc": auc(curve), "equal_error_rate": equal_error_rate(curve), "fpr_95": fpr_at_recall(curve)}
        of_class = images.labels[first]
        owners = images.groups[of_class] if len(np.unique(images.groups)) > 1 else of_class
        if len(np.unique(owners)) > 1:
            found["auc_95"] = list(auc_interval(*kept, owners))
        if images.beside:
            for name, some in kinds(images, first, second, same).items():
                if some.any():
                    found[f"auc_{name}"] = auc(roc(kept.scores[same | some], same[same | some]))
        if isinstance(net, SimilarityNet):
            if net.config.threshold is None:
                raise InputError("these weights have no threshold: it must be chosen on validation data when fitting")
            found["accuracy"] = accuracy(*kept, net.config.threshold)
            if net.config.calibration:
                found["ece"] = calibration_error(net.similarity(kept.scores), same)
        found["one_shot"] = {
            str(n): one_shot(net, images, n, trials, np.random.default_rng((seed, 3, n))) for n in ways
        }
        if shots and isinstance(net, SimilarityNet):
            found["k_shot"] = {}
            for k in shots:
                won = k_shot(net, images, k, max(ways), trials, np.random.default_rng((seed, 5, k)))
                gain = np.subtract(won["attention"], won["mean"], dtype=float)
                found["k_shot"][str(k)] = {by: float(np.mean(right)) for by, right in won.items()} | {
                    "gain_95": list(interval(mean_of(gain), len(gain)))
                }
        if enrol:
            found["verification"] = {
                str(n): verification(claims(net, images, n, 10, np.random.default_rng((seed, 4, n)))) for n in enrol
            }
    if runs:
        shares = one_shot_runs(net, runs)
        found["one_shot_runs"] = float(np.mean(shares))
        found["one_shot_runs_95"] = list(interval(mean_of(shares), len(shares)))
    return found, kept


def need_matplotlib() -> Any:
    """Return matplotlib's Figure. Raises ImportError, which says how to install it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"the plots need matplotlib: {how_to_get('plots')}") from error
    return Figure


def draw_plots(found: dict[str, dict[str, Any]], kept: dict[str, PairScores], folder: Path) -> list[Path]:
    """Write roc.png, scores.png, one-shot.png and claims.png, each whole or not at all; returns what was written.

    found, kept: what `evaluate` returns, by name of the network.
    """
    Figure = need_matplotlib()
    figures: dict[str, Any] = {}
    if kept:
        figures["roc"] = figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.add_subplot(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        for name, pairs in kept.items():
            curve = roc(*pairs)
            axes.plot(curve.fpr, curve.tpr, label=f"{name} (AUC {auc(curve):.3f})")
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        axes.legend(fontsize=7, loc="lower right")
        figures["scores"] = figure = Figure(figsize=(6, 2.5 * len(kept)), layout="constrained")
        for k, (name, pairs) in enumerate(kept.items()):
            axes = figure.add_subplot(len(kept), 1, k + 1, title=name, xlabel="raw score", ylabel="pairs")
            bins = np.histogram_bin_edges(pairs.scores, 40)
            axes.hist([pairs.scores[pairs.same], pairs.scores[~pairs.same]], bins, label=["same", "different"])
            axes.legend()
    if any(len(f.get("one_shot", ())) > 1 for f in found.values()):
        figures["one-shot"] = figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="N (ways)", ylabel="one-shot accuracy", ylim=(0, 1.02))
        for name, values in found.items():
            axes.plot([int(n) for n in values["one_shot"]], list(values["one_shot"].values()), marker="o", label=name)
        axes.legend()
    if any("verification" in f for f in found.values()):
        figures["claims"] = figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.add_subplot(xlabel="false claims accepted", ylabel="true claims accepted", ylim=(0, 1.02))
        for name, values in found.items():
            for enrolled, one in values.get("verification", {}).items():
                label = f"{name}, {enrolled} enrolled (EER {one['equal_error_rate']:.1%})"
                axes.semilogx(ROC_FARS, one["tar"], label=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def draw_sweep(found: dict[str, dict[int, dict[str, float]]], path: Path) -> Path:
    """Write a plot of N-way accuracies against N (a line for each length) and against the length of the embedding.

    found: for each recipe, for each length, for each N, the accuracy.
    """
    figure = need_matplotlib()(figsize=(10, 5), layout="constrained")
    by_ways, by_length = figure.subplots(1, 2, sharey=True)
    lengths, ways = list(next(iter(found.values()))), list(next(iter(next(iter(found.values())).values())))
    by_ways.set(xlabel="N (ways)", ylabel="one-shot accuracy")
    by_ways.set_xticks([int(n) for n in ways])
    by_length.set(xlabel="length of the embedding", xscale="log")
    by_length.set_xticks(lengths, lengths)
    by_length.minorticks_off()
    lines = dict(zip(found, ("-", "--", ":", "-.") * len(found), strict=False))
    for name, own in found.items():
        style: dict[str, Any] = {"linestyle": lines[name], "marker": "o", "markersize": 3}
        for k, values in enumerate(own.values()):
            by_ways.plot([int(n) for n in values], list(values.values()), color=f"C{k}", **style)
        for k, n in enumerate(ways):
            by_length.plot(list(own), [values[n] for values in own.values()], color=f"C{k}", **style)
    for axes, colours in ((by_ways, [f"length {n}" for n in lengths]), (by_length, [f"{n}-way" for n in ways])):
        for k, label in enumerate(colours):
            axes.plot([], [], color=f"C{k}", label=label)
        for name, line in lines.items():
            axes.plot([], [], color="0.3", linestyle=line, label=name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120)
    write_whole(path, picture.getvalue())
    return path


def table(found: dict[str, dict[str, Any]]) -> str:
    """A line for each network: accuracy, AUC, equal error rate, FPR at 95 % recall, calibration error, one-shot
    accuracies, in %.

    AUC from, AUC to: the 95 % interval of the AUC, groups (or classes, where there is one group) being drawn anew.
    from, to: the 95 % interval of the accuracy over published runs, the runs being drawn anew; of the equal error rate
    of claims with n enrolled images ("EER of n"), the classes being drawn anew; gain k: of attention over the mean of k
    references a class, the trials being drawn anew.
    """
    rows = [{"": name} | {k: f"{100 * v:.1f}" for k, v in _flat(values).items()} for name, values in found.items()]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[row.get(c, "-") for c in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(v.rjust(w) if i else v.ljust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in cells
    )


def _flat(values: dict[str, Any]) -> dict[str, float]:
    named = {"accuracy": "accuracy", "auc": "AUC", "equal_error_rate": "EER", "fpr_95": "FPR@95", "ece": "ECE"}
    named |= {"auc_background": "AUC background", "auc_group": "AUC group", "auc_other": "AUC other"}
    out = {label: values[key] for key, label in named.items() if key in values}
    if "auc_95" in values:
        out["AUC from"], out["AUC to"] = values["auc_95"]
    out |= {f"{n}-way": v for n, v in values.get("one_shot", {}).items()}
    for k, one in values.get("k_shot", {}).items():
        low, high = one["gain_95"]
        out |= {f"{k}-shot {by}": one[by] for by in ("nearest", "mean", "attention")}
        out |= {f"gain {k} from": low, f"gain {k} to": high}
    for n, one in values.get("verification", {}).items():
        low, high = one["equal_error_rate_95"]
        out |= {f"EER of {n}": one["equal_error_rate"], f"from {n}": low, f"to {n}": high}
        out |= {f"TAR@{float(far):.1%}, {n}": share for far, share in one["tar_at_far"].items()}
    if "one_shot_runs" in values:
        low, high = values["one_shot_runs_95"]
        out |= {"published runs": values["one_shot_runs"], "from": low, "to": high}
    return out
