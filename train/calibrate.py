"""Make the score a probability: run the tracker on footage with events, and fit how often its box is right.

Every clip is tracked as it is, with the target painted out, with a look-alike and with an imposter, some also with the
other events of `tracker.benchmark.events`: always following, never lost. Each frame gives the evidence for the found
box, and whether its IoU with the truth is at least 0.5; every few frames the whole frame is searched as well, as after
a loss: for the target as it was known some time before. Each candidate that got a closer look, and was verified, gives
a row. The boxes that were followed teach the score (`Confidence.following`), the candidates how to judge what is
verified (`Confidence.verified`). Of an absence only the first frames count, as many as it takes to notice: else they
would outnumber all other wrong boxes, and the score would be too low wherever the target is in view.
"""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.benchmark import events
from tracker.benchmark.judge.fates import auroc, calibration_error
from tracker.benchmark.judge.metrics import iou
from tracker.benchmark.run.workers import begin_worker
from tracker.checkpoints import save_network
from tracker.config import Confidence, Logistic, LongTerm, to_dict
from tracker.errors import DataError
from tracker.footage.clip import Tally, seen_frames
from tracker.footage.layouts import detect, read
from tracker.footage.output import write_whole
from tracker.footage.sequence import Sequence as Footage
from tracker.geometry import Box
from tracker.network import SiameseNet
from tracker.target import EVIDENCE, VERIFIED, Found, Track
from tracker.tracker import Tracker
from tracker.tracks import TrackPolicy
from train.logistic import fit

SHORTEST = 30  # frames of a track that is used
LONGEST = 150  # frames of a clip that are used
SEARCH_EVERY = 3  # frames between searches of the whole frame
GONE = (3, 10, 30, 90)  # frames for which a target is taken to have been out of sight when it is searched
NEVER = 2.0  # a score that there is not
NOTICED = 3  # frames without the target after which a tracker has called it lost
PATIENCE = 6  # frames on a wrong thing after which the target is put back

J = TypeVar("J")
R = TypeVar("R")


def footage(sources: Sequence[Path], folder: Path, tally: Tally) -> list[Footage]:
    """The longest unbroken track of every clip as a sequence of image files in `folder`; what is there is kept."""
    found = []
    taken: set[Path] = set()
    for source in sources:
        for clip in tqdm(read(source, detect(source), tally), f"{source.name}", unit="clip", mininterval=1):
            place = folder / clip.name.replace("/", "_")
            if place in taken:
                raise DataError(f"{source}: a second clip is called {place.name}; rename one of them")
            taken.add(place)
            tracks: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
            files: dict[int, Path] = {}
            for number, image, seen in seen_frames(clip, tally):
                if number >= LONGEST:
                    break
                place.mkdir(parents=True, exist_ok=True)
                files[number] = place / f"{number:06d}.jpg"
                if not files[number].is_file():
                    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
                    files[number].write_bytes(coded.tobytes())
                for one in seen:
                    if not one.fault:
                        tracks.setdefault(one.target.name, []).append((number, one.box))
            runs = [run for track in tracks.values() for run in _unbroken(track)]
            longest = max(runs, key=len, default=[])
            if len(longest) >= SHORTEST:
                boxes = np.array([box for _, box in longest], np.float64)
                found.append(Footage(clip.name.replace("/", "_"), tuple(files[n] for n, _ in longest), boxes))
    if not found:
        raise DataError(f"no track of {SHORTEST} frames in a row in {', '.join(map(str, sources))}")
    return found


def _unbroken(track: list[tuple[int, tuple[float, ...]]]) -> Iterator[list[tuple[int, tuple[float, ...]]]]:
    """Split a track where frames are missing."""
    begin = 0
    for i in range(1, len(track) + 1):
        if i == len(track) or track[i][0] != track[i - 1][0] + 1:
            yield track[begin:i]
            begin = i


class Gathered(NamedTuple):
    """Evidence of what was followed (N, 8) and of candidates (M, 10), and whether each was right."""

    following: NDArray[np.float64]
    followed_right: NDArray[np.bool_]
    finding: NDArray[np.float64]
    found_right: NDArray[np.bool_]


def gather(tracker: Tracker, sequence: Footage, told: bool) -> Gathered:
    """Evidence from one run over `sequence` in which nothing is ever lost.

    tracker: one that is never in doubt. told: it learns from what is right, which no tracker knows; else what
    it believes to be right.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {"followed": [], "candidate": []}
    right: dict[str, list[bool]] = {"followed": [], "candidate": []}

    def note(found: Found, truth: NDArray[np.float64], kind: str) -> bool:
        rows[kind].append(found.evidence[: len(EVIDENCE)] if kind == "followed" else found.evidence)
        right[kind].append(bool(iou(np.array([found.box]), truth[None])[0] >= 0.5))
        return right[kind][-1]

    policy, target = tracker.policy, tracker.init(sequence.image(0), sequence.boxes[0].tolist())
    assert isinstance(policy, TrackPolicy)
    wrong = away = 0  # frames in a row: on something else with the target in view; without the target
    known = [copy.copy(target)]  # what was known of it in each frame
    for index in range(1, len(sequence)):
        frame, truth = sequence.image(index), sequence.boxes[index]
        there, lost = bool(np.isfinite(truth).all()), away > NOTICED
        away = 0 if there else away + 1
        if lost or away > NOTICED:
            if there:  # found again
                target.put(Track(Box(*truth.tolist())))
            known.append(copy.copy(target))
            continue
        if not told and index % SEARCH_EVERY == 0:
            gone = GONE[index // SEARCH_EVERY % len(GONE)]
            searching = copy.copy(known[max(index - gone, 0)])
            searching.put(Track(searching.box))
            searching.state, searching.scan = "lost", index // SEARCH_EVERY
            windows = policy.windows(frame, searching)
            (views,) = tracker.engine.look(frame, [(searching.appearance, windows)])
            boxes = policy.search.candidates(searching, views, ())
            for found in policy.search.look_closer(searching, frame, boxes):
                note(found, truth, "candidate")
        tracker.update(frame, target)
        assert target.seen and target.reference
        good = note(target.seen, truth, "followed")
        if told and good:
            target.reference = target.reference.after(target.seen)
        wrong = wrong + 1 if there and not good else 0
        known.append(copy.copy(target))
        if wrong >= PATIENCE:  # a tracker that knows would have been lost and found again
            target.put(Track(Box(*truth.tolist())))
            wrong = 0
    return Gathered(
        np.array(rows["followed"]).reshape(-1, len(EVIDENCE)), np.array(right["followed"], bool),
        np.array(rows["candidate"]).reshape(-1, len(VERIFIED)), np.array(right["candidate"], bool),
    )  # fmt: skip


def calibrate(
    net: SiameseNet, sequences: list[Footage], folder: Path, workers: int = 1, seed: int = 0
) -> tuple[Confidence, dict[str, float]]:
    """Fit a `Confidence` for `net`; returns it with counts and errors on the same footage.

    Habits are formed by what the tracker believes: by the confidence that the net has, or, where it has none, by a
    first fit, to runs that were told the truth.
    folder: where the footage with events and the evidence of every run are written, and kept: what was interrupted goes
    on. workers: processes, one thread each.
    """
    rng = np.random.default_rng(seed)
    happened = events.all_events(sequences, seed=seed)
    chosen = [e for e in happened if e.kind in ("erased", "lookalike", "imposter") or rng.random() < 0.15]
    list(_each(partial(_write_event, folder=folder / "events"), chosen, workers, "events"))
    names = {event.name for event in chosen}
    written = [w.sequence for w in events.load_events(folder / "events")] if chosen else []
    runs = [*sequences, *(s for s in written if s.name in names)]
    confidence = net.config.confidence
    if confidence is None:
        nothing = Confidence(Logistic((0.0,) * len(EVIDENCE), 20.0), Logistic((0.0,) * len(VERIFIED), 20.0))
        first = _gather_all(net, nothing, runs, folder, True, workers)
        confidence = Confidence(fit(first.following, first.followed_right), nothing.verified)
    rows = _gather_all(net, confidence, runs, folder, False, workers)
    if not len(rows.finding):
        raise DataError("no candidate was found in any whole frame: calibration needs more or longer clips")
    confidence = replace(
        confidence, following=fit(rows.following, rows.followed_right), verified=fit(rows.finding, rows.found_right)
    )
    p = np.array([confidence.following.probability(row) for row in rows.following.tolist()])
    q = np.array([confidence.verified.probability(row) for row in rows.finding.tolist()])
    return confidence, {
        "rows": len(p),
        "right": float(rows.followed_right.mean()),
        "ece": calibration_error(p, rows.followed_right),
        "auroc": auroc(p, rows.followed_right),
        "candidates": len(q),
        "candidates_right": float(rows.found_right.mean()),
        "candidates_ece": calibration_error(q, rows.found_right),
        "candidates_auroc": auroc(q, rows.found_right),
    }


def _gather_all(
    net: SiameseNet, confidence: Confidence, runs: list[Footage], folder: Path, told: bool, workers: int
) -> Gathered:
    """The evidence of all runs of a tracker with this net and confidence, joined."""
    net = copy.deepcopy(net)
    net.config = replace(net.config, confidence=replace(confidence, rules=never_in_doubt(confidence.rules, told)))
    digest = hashlib.sha256(f"{to_dict(net.config)}".encode())
    for value in net.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    place = folder / "rows" / digest.hexdigest()[:12]
    place.mkdir(parents=True, exist_ok=True)
    weights = place / "weights.safetensors"
    save_network(net, weights, half=False)
    work = partial(_gathered, weights=weights, told=told)
    name = "calibrate, told" if told else "calibrate"
    return Gathered(*(np.concatenate(part) for part in zip(*_each(work, runs, workers, name), strict=True)))


def never_in_doubt(rules: LongTerm | None, told: bool) -> LongTerm:
    """Rules by which no frame takes belief; told: nor does a tracker learn from any by itself."""
    rules = replace(rules or LongTerm(), doubt=0.0)
    return replace(rules, likely=NEVER) if told else rules


def _gathered(sequence: Footage, weights: Path, told: bool) -> Gathered:
    """What `gather` makes of a run, from the file beside `weights` where it is there."""
    file = weights.with_name(f"{sequence.name}-{sequence.fingerprint()}.npz")
    if not file.is_file():
        buffer = io.BytesIO()
        np.savez(buffer, **gather(_load(weights), sequence, told)._asdict())
        write_whole(file, buffer.getvalue())
    with np.load(file) as rows:
        return Gathered(**rows)


@lru_cache(1)
def _load(weights: Path) -> Tracker:
    return Tracker.load(weights, device="cpu")


def _write_event(event: events.Event, folder: Path) -> None:
    events.write_events([event], folder, quiet=True)


def _each(work: Callable[[J], R], jobs: Sequence[J], workers: int, name: str) -> Iterator[R]:
    """`work` of each job, in their order, with a bar. workers: processes, one thread each; 1: none but this one."""
    bar = partial(tqdm, total=len(jobs), desc=name, unit="run", mininterval=1)
    if workers == 1:
        yield from bar(map(work, jobs))
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
        try:
            yield from bar(pool.map(work, jobs))
        except BaseException:  # of a job, or Ctrl-C: what has begun is finished and kept
            pool.shutdown(cancel_futures=True)
            raise
