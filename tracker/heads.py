"""From two sets of features to a score map and a box map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracker.correlation import xcorr, xcorr_pixelwise


class Template(NamedTuple):
    """What a network remembers of a target.

    features: (N, C, h, w) of the exemplar. summary: (N, S) what else the head wants to know. patch: (N, P, p, p) how
    the inside of the box looked to the `Refiner`. S = P = 0 for SiamFC.
    """

    features: Tensor
    summary: Tensor
    patch: Tensor


class Maps(NamedTuple):
    """What a network says of a search region.

    logits: (N, H, W). box_map: (N, 4, H, W) distances from the cell's centre to the left, top, right and bottom
    edge, search px; None when the network has no box head. levels: features for the `Refiner`, the finest first.
    """

    logits: Tensor
    box_map: Tensor | None
    levels: tuple[Tensor, ...] = ()


class ScoreHead(nn.Module):
    """SiamFC's head: the response, scaled by a constant and shifted so that a sigmoid makes sense of it."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1e-3))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, template: Template, search: Tensor) -> Maps:
        """search: (N, C, H, W) features. Returns logits (N, H - h + 1, W - w + 1)."""
        return Maps(xcorr(template.features, search)[:, 0] * self.scale + self.bias, None)


def separable(channels: int, stride: int = 1) -> nn.Sequential:
    """Depth-wise 5x5 and point-wise convolution: a wide view for few multiplications."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 5, stride, 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class BoxHead(nn.Module):
    """Score map and box map from search features, compared with the template in two ways.

    Pixel-wise correlation says which part of the exemplar a cell looks like; a product with the target's mean
    feature says how much it looks like the target as a whole. The target's width and height in the exemplar ride
    along, so that the box map knows which extent was asked for.
    """

    WIDTH = 128
    HALF_SIZE = 24.0  # search px, typical distance from a target's centre to its edge: where exp(0) starts

    def __init__(self, channels: int, template_cells: int) -> None:
        super().__init__()
        fused = 2 * channels + template_cells + 2
        self.fuse = nn.Sequential(
            nn.BatchNorm2d(fused), nn.Conv2d(fused, self.WIDTH, 1, bias=False), nn.BatchNorm2d(self.WIDTH), nn.ReLU()
        )
        self.shared = separable(self.WIDTH)
        self.score_tower = nn.Sequential(separable(self.WIDTH), separable(self.WIDTH))
        self.box_tower = nn.Sequential(separable(self.WIDTH), separable(self.WIDTH))
        self.score = nn.Conv2d(self.WIDTH, 1, 1)
        self.box = nn.Conv2d(self.WIDTH, 4, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, -2.0)  # type: ignore[arg-type]
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.zeros_(self.box.bias)  # type: ignore[arg-type]

    def forward(self, template: Template, search: Tensor) -> Maps:
        """search: (N, C, H, W) features. Returns logits (N, H, W) and box_map (N, 4, H, W)."""
        channels = search.shape[1]
        summary = template.summary[:, :, None, None]
        whole = search * summary[:, :channels]
        parts = xcorr_pixelwise(template.features, search)
        extent = summary[:, channels:].expand(-1, -1, search.shape[2], search.shape[3])
        x = self.shared(self.fuse(torch.cat([search, whole, parts, extent], dim=1)))
        logits = self.score(self.score_tower(x))[:, 0]
        box_map = self.box(self.box_tower(x)).clamp(-8.0, 4.0).exp() * self.HALF_SIZE
        return Maps(logits, box_map)


class Refiner(nn.Module):
    """A closer look at one box: how it must move and stretch to lie on the target as the first box did.

    The features in and around the box are sampled on a grid that moves and stretches with it (as RoIAlign: He et al.,
    Mask R-CNN, 2017, section 3), in the search crop as in the exemplar. Where the box is right both show the same in
    the same place; what differs says in which way it is wrong. So nothing depends on the size at which the target is
    seen, and the first box says what belongs to the target (after Yan et al., Alpha-Refine, 2021).
    """

    STRIDES = (4, 8, 16)  # of the levels, search px
    CELLS = 16  # of the grid, along each axis
    REGION = 1.6  # how much wider than the box the grid is
    NARROW, WIDTH, HIDDEN = 64, 96, 128
    MOST = 1.0  # how far a box moves (in its own sizes) and stretches (log) at most

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        total, end = sum(channels), self.CELLS // 4
        self.narrow = nn.Sequential(
            nn.BatchNorm2d(total), nn.Conv2d(total, self.NARROW, 1, bias=False), nn.BatchNorm2d(self.NARROW), nn.ReLU()
        )
        self.compare = nn.Sequential(
            nn.Conv2d(3 * self.NARROW, self.WIDTH, 1, bias=False), nn.BatchNorm2d(self.WIDTH), nn.ReLU(),
            separable(self.WIDTH), separable(self.WIDTH, 2), separable(self.WIDTH, 2),
        )  # fmt: skip
        last = nn.Linear(self.HIDDEN, 5)
        nn.init.zeros_(last.weight)  # before training it leaves boxes as they are
        nn.init.zeros_(last.bias)
        hidden = nn.Linear(self.WIDTH * end * end, self.HIDDEN)
        self.out = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), last)

    def look(self, levels: Sequence[Tensor], boxes: Tensor, size: int) -> Tensor:
        """What is in and around boxes.

        levels: (N, C, h, w) of a crop of `size` px, one for each of `STRIDES`; they learn nothing from here. boxes:
        (N, K, 4) cx, cy, w, h, crop px. Returns (N K, 64, 16, 16).
        """
        steps = (torch.arange(self.CELLS, dtype=boxes.dtype, device=boxes.device) + 0.5) / self.CELLS - 0.5
        across = boxes[..., :1] + self.REGION * boxes[..., 2:3] * steps
        down = boxes[..., 1:2] + self.REGION * boxes[..., 3:4] * steps
        sampled = []
        for level, stride in zip(levels, self.STRIDES, strict=True):
            x = bilinear(across, level.shape[3], stride, size)
            y = bilinear(down, level.shape[2], stride, size)
            rows = y @ level.detach().permute(0, 2, 3, 1).flatten(2)[:, None]  # channels last: one large product
            sampled.append(x[:, :, None] @ rows.unflatten(-1, (level.shape[3], level.shape[1])))
        return self.narrow(torch.cat(sampled, dim=-1).flatten(0, 1).permute(0, 3, 1, 2))

    def forward(self, template: Tensor, patch: Tensor, boxes: Tensor) -> Tensor:
        """Better boxes. template, patch: (M, 64, 16, 16) of the exemplar's box and of `boxes`, (M, 4) cx, cy, w, h.

        Returns (M, 5): cx, cy, w, h, and the logit of the new box being right.
        """
        found = self.out(self.compare(torch.cat([template, patch, template * patch], dim=1)))
        moved = found[:, :4].clamp(-self.MOST, self.MOST)
        centre, extent = boxes[:, :2] + moved[:, :2] * boxes[:, 2:], boxes[:, 2:] * moved[:, 2:].exp()
        return torch.cat([centre, extent, found[:, 4:]], dim=1)


def bilinear(places: Tensor, cells: int, stride: int, size: int) -> Tensor:
    """Weights of bilinear sampling along one axis; beyond the outermost cells all is 0.

    places: (..., P) px in a crop of `size` px, which `cells` cells cover, `stride` px apart. Returns (..., P, cells).
    """
    first = (size - (cells - 1) * stride) / 2
    index = torch.arange(cells, dtype=places.dtype, device=places.device)
    return (1 - ((places[..., None] - first) / stride - index).abs()).clamp(min=0)
