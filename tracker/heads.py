"""From two sets of features to a score map and a box map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracker.correlation import xcorr, xcorr_pixelwise


class Template(NamedTuple):
    """What a network remembers of a target.

    features: (N, C, h, w) of the exemplar. summary: (N, S) what else the head wants to know; S = 0 for SiamFC.
    """

    features: Tensor
    summary: Tensor


class Maps(NamedTuple):
    """What a network says of a search region.

    logits: (N, H, W). box_map: (N, 4, H, W) distances from the cell's centre to the left, top, right and bottom
    edge, search px; None when the network has no box head.
    """

    logits: Tensor
    box_map: Tensor | None


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


def separable(channels: int) -> nn.Sequential:
    """Depth-wise 5x5 and point-wise convolution: a wide view for few multiplications."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 5, 1, 2, groups=channels, bias=False),
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
