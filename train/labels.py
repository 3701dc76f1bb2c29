"""What the maps should say of a box: the inverse of how tracker/kernels.py reads them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tracker.geometry import Grid


class Labels(NamedTuple):
    """What to learn from N pairs.

    score: (N, H, W) 1 target, 0 background, -1 not counted. box_map: (N, 4, H, W) search px. box_weight: (N, H, W).
    """

    score: Tensor
    box_map: Tensor
    box_weight: Tensor


def radius_labels(box_search: Tensor, grid: Grid, radius: float) -> Tensor:
    """SiamFC's labels: 1 within `radius` search px of the target's centre, else 0 (Bertinetto et al. 2016, eq. 4).

    box_search: (N, 4) x, y, w, h; w = h = 0 where the target is absent. Returns (N, H, W); the cell nearest to a
    target that is there is always 1.
    """
    dx, dy = _offsets(box_search, grid)
    squared = dx[:, None, :] ** 2 + dy[:, :, None] ** 2
    positive = (squared <= radius**2) | (squared == squared.amin((1, 2), keepdim=True))
    return (positive & _present(box_search)).float()


def ellipse_labels(box_search: Tensor, grid: Grid) -> Labels:
    """Targets inside the ellipse of half the box, background outside that of the whole box, a ring between not counted.

    After Chen et al., SiamBAN, 2020, section 3.3. box_search: (N, 4) x, y, w, h; w = h = 0 where the target is absent
    and all is background. The box map holds the distances from each cell's centre to the edges; cells in the outer
    ellipse weigh 1 where they are targets, 0.5 in the ring.
    """
    dx, dy = _offsets(box_search, grid)
    half_w, half_h = box_search[:, 2, None].clamp(min=1e-3) / 2, box_search[:, 3, None].clamp(min=1e-3) / 2
    outer = (dx / half_w)[:, None, :] ** 2 + (dy / half_h)[:, :, None] ** 2
    squared = dx[:, None, :] ** 2 + dy[:, :, None] ** 2
    nearest = squared == squared.amin((1, 2), keepdim=True)
    present = _present(box_search)
    positive = ((outer <= 0.25) | nearest) & present
    score = torch.where(positive, 1.0, torch.where((outer <= 1) & present, -1.0, 0.0))
    cells = grid.cells
    left, right = (dx + half_w)[:, None, :].expand(-1, cells, -1), (half_w - dx)[:, None, :].expand(-1, cells, -1)
    top, bottom = (dy + half_h)[:, :, None].expand(-1, -1, cells), (half_h - dy)[:, :, None].expand(-1, -1, cells)
    box_map = torch.stack([left, top, right, bottom], dim=1)
    inside = (box_map > 0).all(1) & present
    weight = inside * (positive * 1.0 + ((outer <= 1) & ~positive) * 0.5)
    return Labels(score, box_map, weight)


def _present(box_search: Tensor) -> Tensor:
    """(N, 1, 1) whether the target is in the search crop."""
    return (box_search[:, 2] > 0)[:, None, None]


def _offsets(box_search: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """(N, cells) cell centre minus box centre, along x and along y, search px."""
    centres = torch.as_tensor(grid.centres, dtype=box_search.dtype, device=box_search.device)
    centre = box_search[:, :2] + box_search[:, 2:] / 2
    return centres - centre[:, :1], centres - centre[:, 1:]
