"""Fine-tuning on labelled clips: all that `siamtrack train --from ... --data ...` decides by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tracker.config import BoxCrops, BoxTracking, ModelConfig
from tracker.errors import DataError
from tracker.footage.files import files_below
from tracker.footage.layouts import detect
from tracker.footage.output import write_whole
from train.config import BoxLoss, OptimConfig, PairConfig, ScoreLoss, TrainConfig
from train.store import Store, prepare

KEPT = "kept:"  # prefix of the sources of the store that is trained on against forgetting


def footage_name(path: Path) -> str:
    """What to call a run on this footage: the name of its folder."""
    path = path.resolve()
    return path.name if path.is_dir() else path.parent.name


def prepare_tune(data: Sequence[Path], folder: Path, layout: str | None) -> None:
    """Make a store of the footage in `folder`, or see that the one that stands there is of this footage.

    Raises DataError: it is of other footage; or the footage cannot be used.
    """
    origin, found = folder / "origin.json", _origin(data, layout)
    if (folder / "index.npz").is_file():
        if not origin.is_file() or json.loads(origin.read_text(encoding="utf-8")) != found:
            raise DataError(f"{folder} was made of other footage, or the footage has changed; give another --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(origin, json.dumps(found, indent=1).encode())
    for line in prepare(data, folder, layout).lines():
        print(line)


def _origin(data: Sequence[Path], layout: str | None) -> list[list[str]]:
    """What a store is made of: each path with a hash of the names, sizes and times of the files there."""
    found = []
    for path in data:
        form = layout or detect(path)
        root = path.parent if path.is_file() else path
        digest = hashlib.sha256()
        for file in files_below(root):
            digest.update(f"{file.relative_to(root)}:{file.stat().st_size}:{file.stat().st_mtime_ns};".encode())
        found.append([str(path.resolve()), form, digest.hexdigest()[:16]])
    return found


def tune_config(model: ModelConfig, store: Store, keep_share: float) -> TrainConfig:
    """The recipe of a fine-tuning.

    model: of the network to begin with. store: of the new footage, joined with the kept one, if any.
    keep_share: share of the pairs that come out of the kept one, in [0, 1). Sources count with the root of their boxes.
    """
    boxes = {s: sum(len(store.tracks[t].images) for t in tracks) for s, tracks in store.by_source.items()}
    roots = {s: float(np.sqrt(n)) for s, n in boxes.items()}
    total = {kept: sum(r for s, r in roots.items() if s.startswith(KEPT) == kept) for kept in (False, True)}
    share = {False: 1 - keep_share if total[True] else 1.0, True: keep_share}
    mix = {s: share[s.startswith(KEPT)] * r / total[s.startswith(KEPT)] for s, r in roots.items()}
    boxes_read = isinstance(model.tracking, BoxTracking)
    return TrainConfig(
        seed=1,
        model=model,
        precision="fp32",
        search_size=model.search_size if boxes_read else 191,
        pairs=PairConfig(
            mix=mix,
            max_gap=100,
            max_shift=52.0 if boxes_read else 20.0,
            scale_jitter=0.3 if boxes_read else 0.08,
            shape_jitter=0.1 if isinstance(model.crops, BoxCrops) else 0.0,
            turn=0.2,
            exemplar_jitter=0.05,
            part=0.0,
            absent=0.1 if boxes_read else 0.0,
            cutout=0.4,
            deform=0.5,
            motion_blur=0.2,
            distractor=0.3,
            look_alike=0.1,
            imposter=0.0,
            occluder=0.0,
            flip=0.5,
            grey=0.1,
            colour=0.6,
            blur=0.2,
            noise=0.1,
        ),
        loss=BoxLoss(
            score="bce",
            overlap="giou",
            box=1.5,
            hard=0.5,
            swapped=0.5,
            refine=0.5 if model.network == "swift" else 0.0,
        )
        if boxes_read
        else ScoreLoss(radius=16.0, hard=0.5, swapped=0.5),
        optim=OptimConfig(
            optimiser="adamw",
            lr=1e-4,
            lr_end=1e-6,
            schedule="cosine",
            warmup=0.05,
            weight_decay=0.0,
            momentum=0.9,
            trunk_lr=0.2,
            train="all",
            frozen_stages=5 if boxes_read else 0,
            frozen_norm=True,
            start_share=0.5,
            steps=300,
            batch=32 if boxes_read else 8,
            micro_batch=16 if boxes_read else 8,
            clip=5.0,
            ema=0.99,
        ),
    )
