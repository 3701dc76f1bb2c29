"""From two sets of features to a score map and a box map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracker.backbones import Gate
from tracker.correlation import xcorr, xcorr_depthwise, xcorr_pixelwise


class Template(NamedTuple):
    """What a network remembers of a target.

    features: (N, C, h, w) of the exemplar, or (N, L) what `NanoHead.remember` makes of them. patch: (N, P, p, p) how
    the inside of the box looked to the `Refiner`; P = 0 where there is none.
    """

    features: Tensor
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


class Branch(nn.Module):
    """One of the two branches of a `BoxHead`: search features become a map of `outputs` channels.

    Their encoding is compared with every cell of the template, and both go on together: the pixel-wise fusion block of
    Borsuk et al., FEAR, 2022, section 3.2.
    """

    TOWER = 2  # separable convolutions between the fusion and the last one

    def __init__(self, channels: int, template_cells: int, outputs: int) -> None:
        super().__init__()

        def separable(inputs: int, width: int, bias: bool = True) -> list[nn.Module]:
            return [nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=bias), nn.Conv2d(inputs, width, 1)]

        self.encode = nn.Sequential(*separable(channels, channels, bias=False), nn.ReLU(inplace=True))
        layers = [*separable(channels + template_cells, channels), nn.ReLU(inplace=True)]
        for _ in range(self.TOWER):
            layers += [*separable(channels, channels), nn.ReLU(inplace=True)]
        self.read = nn.Sequential(*layers, *separable(channels, outputs))

    def forward(self, template: Tensor, search: Tensor) -> Tensor:
        """template: (N, C, h, w), search: (N, C, H, W) features. Returns (N, outputs, H, W)."""
        seen = self.encode(search)
        return self.read(torch.cat([seen, xcorr_pixelwise(template, seen)], dim=1))


class BoxHead(nn.Module):
    """Score map and box map from search features and a template, by a branch each; without batch-norm."""

    HALF_SIZE = 24.0  # search px, typical distance from a target's centre to its edge: where exp(0) starts

    def __init__(self, channels: int, template_cells: int) -> None:
        super().__init__()
        self.score, self.box = Branch(channels, template_cells, 1), Branch(channels, template_cells, 4)
        for branch, start in ((self.score, -2.0), (self.box, 0.0)):
            last: nn.Conv2d = branch.read[-1]  # type: ignore[assignment]
            nn.init.normal_(last.weight, std=0.01)
            nn.init.constant_(last.bias, start)  # type: ignore[arg-type]

    def forward(self, template: Template, search: Tensor) -> Maps:
        """search: (N, C, H, W) features. Returns logits (N, H, W) and box_map (N, 4, H, W)."""
        logits = self.score(template.features, search)[:, 0]
        box_map = self.box(template.features, search).clamp(-8.0, 4.0).exp() * self.HALF_SIZE
        return Maps(logits, box_map)


class NanoHead(nn.Module):
    """NanoTrack v3's head: score map and box map by two branches abreast, which are the two groups of each layer.

    A branch compares its search features with the template twice: every cell with every cell of it, and channel by
    channel with its middle. What depends on the template alone is worked out once, by `remember`.
    """

    BRANCHES = 2  # of the score and of the box
    TOWER = 6  # depth-wise and point-wise convolutions of a branch; the last point-wise one reads the maps
    FIRST = 15.5  # centre of cell 0 of its maps, search px: what the published weights have learnt
    MIDDLE = slice(2, 6)  # of the 8 cells of a template along an axis, those that lie on the target
    LARGEST = 8.0  # log of a distance, search px

    def __init__(self, channels: int, template_cells: int) -> None:
        super().__init__()
        both, self.cells = self.BRANCHES * channels, self.BRANCHES * template_cells
        middle = self.MIDDLE.stop - self.MIDDLE.start
        # What search features are multiplied with at each template cell, what is added, and the depth-wise template.
        self.alike = nn.Conv2d(channels, both, 1)
        self.offset = nn.Conv2d(channels, self.BRANCHES, 1)
        self.middle = nn.Conv2d(channels, both, 1)
        self.sizes = self.cells * channels, self.cells, both * middle**2
        self.encode = nn.Conv2d(channels, both, 1)
        self.gate = Gate(self.cells, self.cells, nn.Sigmoid(), groups=self.BRANCHES)
        self.pixelwise = nn.Sequential(
            nn.Conv2d(self.cells, self.cells, 2, groups=self.cells), nn.ReLU6(inplace=True),
            nn.Conv2d(self.cells, both, 1, groups=self.BRANCHES),
        )  # fmt: skip
        self.depthwise = nn.Conv2d(both, both, 1, groups=self.BRANCHES, bias=False)
        layers: list[nn.Module] = []
        for i in range(self.TOWER):
            layers += [nn.Conv2d(both, both, 3, 1, 1, groups=both), nn.ReLU6(inplace=True)]
            if i < self.TOWER - 1:
                layers.append(nn.Conv2d(both, both, 1, groups=self.BRANCHES))
        self.tower = nn.Sequential(*layers)
        self.read = nn.Conv2d(both, 5, 1)

    def remember(self, exemplar: Tensor) -> Tensor:
        """(N, C, 8, 8) features of an exemplar -> (N, L), in the form in which `forward` takes them."""
        n, channels = exemplar.shape[:2]
        alike = self.alike(exemplar).reshape(n, self.BRANCHES, channels, -1).transpose(2, 3)
        middle = self.middle(exemplar[..., self.MIDDLE, self.MIDDLE])
        return torch.cat([part.flatten(1) for part in (alike, self.offset(exemplar), middle)], dim=1)

    def forward(self, template: Template, search: Tensor) -> Maps:
        """template: features by `remember`. search: (N, C, H, W) features.

        Returns logits (N, H - 1, W - 1) and box_map (N, 4, H - 1, W - 1).
        """
        n, channels, height, width = search.shape
        alike, offset, middle = template.features.split(self.sizes, dim=1)
        seen = alike.reshape(n, self.cells, channels) @ search.flatten(2) + offset.reshape(n, self.cells, 1)
        pixelwise = self.pixelwise(self.gate(seen.reshape(n, self.cells, height, width)))
        size = self.MIDDLE.stop - self.MIDDLE.start
        depthwise = xcorr_depthwise(middle.reshape(n, -1, size, size), self.encode(search), padding=1)
        maps = self.read(self.tower(pixelwise + self.depthwise(depthwise)))
        return Maps(maps[:, 0], maps[:, 1:].clamp(max=self.LARGEST).exp())


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

    def patches(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """What is in and around boxes.

        levels: (N, C, h, w) of a crop, one for each of `STRIDES`; they learn nothing from here. boxes:
        (N, K, 4) cx, cy, w, h, crop px. Returns (N K, 64, 16, 16).
        """
        steps = (torch.arange(self.CELLS, dtype=boxes.dtype, device=boxes.device) + 0.5) / self.CELLS - 0.5
        low, extent = boxes[..., None, :2], boxes[..., None, 2:]
        places = low + self.REGION * extent * steps[:, None]  # (N, K, 16, 2)
        grid = self.CELLS
        sampled = []
        for level, stride in zip(levels, self.STRIDES, strict=True):
            channels, height, width = map(int, level.shape[1:])  # whole numbers, see `xcorr_pixelwise`
            x, y = bilinear(places[..., 0], width, stride), bilinear(places[..., 1], height, stride)
            lines = level.detach().permute(0, 2, 3, 1).reshape(-1, 1, height, width * channels)
            rows = (y @ lines).reshape(-1, grid, width, channels)  # channels last: one large product
            sampled.append(x.reshape(-1, 1, grid, width) @ rows)  # (N K, 16, 16, C)
        return self.narrow(torch.cat(sampled, dim=-1).permute(0, 3, 1, 2))

    def forward(self, template: Tensor, patch: Tensor, boxes: Tensor) -> Tensor:
        """Better boxes. template, patch: (M, 64, 16, 16) of the exemplar's box and of `boxes`, (M, 4) cx, cy, w, h.

        Returns (M, 5): cx, cy, w, h, and the logit of the new box being right.
        """
        found = self.out(self.compare(torch.cat([template, patch, template * patch], dim=1)))
        moved = found[:, :4].clamp(-self.MOST, self.MOST)
        centre, extent = boxes[:, :2] + moved[:, :2] * boxes[:, 2:], boxes[:, 2:] * moved[:, 2:].exp()
        return torch.cat([centre, extent, found[:, 4:]], dim=1)


def bilinear(places: Tensor, cells: int, stride: int) -> Tensor:
    """Weights of bilinear sampling along one axis; beyond the outermost cells all is 0.

    places: (..., P) px in a crop that `cells` cells cover; cell i is centred on pixel i `stride`. Returns
    (..., P, cells).
    """
    first = 0.5  # the centre of pixel 0
    index = torch.arange(cells, dtype=places.dtype, device=places.device)
    return (1 - ((places[..., None] - first) / stride - index).abs()).clamp(min=0)
