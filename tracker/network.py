"""The Siamese networks: two images go through one trunk and their embeddings are compared. Stateless."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tracker.backbones import AlexNet, FBNet, MobileNetV3
from tracker.config import ModelConfig, NetworkName
from tracker.geometry import Grid
from tracker.heads import BoxHead, Maps, NanoHead, Refiner, ScoreHead, Template


class SiameseNet(nn.Module, ABC):
    """`embed` an exemplar once, then `forward` it with every search region. config: crop sizes, and how it is used."""

    stride: int  # search px between two cells of the features
    backbone: nn.Module
    head: nn.Module

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def grid(self) -> Grid:
        """Where the cells of the score map lie on the search crop."""
        return self.grid_on(self.config.search_size)

    @abstractmethod
    def grid_on(self, size: int) -> Grid:
        """The same on search crops of another size, px."""

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) RGB in [0, 255] -> (N, C, H', W') of each level; the same weights for exemplar and search.

        The last level is what is compared, those before it are finer.
        """
        return self.backbone(x)

    @abstractmethod
    def embed(self, exemplar: Tensor, extent: Tensor) -> Template:
        """Turn an exemplar into a template.

        exemplar: (N, 3, Hz, Wz) RGB in [0, 255]. extent: (N, 2) width and height of the target in it, as shares of
        its size (the target is at the centre).
        """

    @abstractmethod
    def forward(self, template: Template, search: Tensor) -> Maps:
        """Compare. search: (N, 3, Hx, Wx) RGB in [0, 255], one for each template."""


class SiamFC(SiameseNet):
    """AlexNet and a cross-correlation: a score map, no boxes (Bertinetto et al. 2016)."""

    stride = AlexNet.STRIDE

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.backbone, self.head = AlexNet(), ScoreHead()

    def grid_on(self, size: int) -> Grid:  # nothing is padded: the map is centred
        cells = (size - self.config.exemplar_size) // self.stride + 1
        return Grid(cells, self.stride, (size - (cells - 1) * self.stride) / 2)

    def embed(self, exemplar: Tensor, extent: Tensor) -> Template:
        return without_patch(self.features(exemplar)[-1])

    def forward(self, template: Template, search: Tensor) -> Maps:
        return self.head(template, self.features(search)[-1])


class SwiftNano(SiameseNet):
    """NanoTrack v3: MobileNetV3, a score map and a box map."""

    head: NanoHead
    stride = MobileNetV3.STRIDE

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.backbone = MobileNetV3()
        self.head = NanoHead(MobileNetV3.CHANNELS, cells_along(config.exemplar_size, self.stride) ** 2)

    def grid_on(self, size: int) -> Grid:
        return Grid(cells_along(size, self.stride) - 1, self.stride, NanoHead.FIRST)

    def embed(self, exemplar: Tensor, extent: Tensor) -> Template:
        return without_patch(self.head.remember(self.features(exemplar)[-1]))

    def forward(self, template: Template, search: Tensor) -> Maps:
        return self.head(template, self.features(search)[-1])


class Swift(SiameseNet):
    """FBNet, a score map and a box map as in FEAR (Borsuk et al. 2022), and a `Refiner` for boxes of interest."""

    stride = FBNet.STRIDE
    WIDTH = 256  # channels of what is compared

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.backbone = FBNet()
        self.neck = nn.Conv2d(FBNet.CHANNELS, self.WIDTH, 1)
        self.head = BoxHead(self.WIDTH, cells_along(config.exemplar_size, self.stride) ** 2)
        self.refiner = Refiner((FBNet.FINE_CHANNELS, FBNet.DETAIL_CHANNELS, self.WIDTH))

    def grid_on(self, size: int) -> Grid:
        return Grid(cells_along(size, self.stride), self.stride, FBNet.FIRST)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        fine, detail, coarse = self.backbone(x)
        return fine, detail, self.neck(coarse)

    def embed(self, exemplar: Tensor, extent: Tensor) -> Template:
        levels, size = self.features(exemplar), exemplar.shape[-1]
        box = torch.cat([torch.full_like(extent, size / 2), extent * size], dim=1)
        return Template(levels[-1], self.patches(levels, box))

    def forward(self, template: Template, search: Tensor) -> Maps:
        levels = self.features(search)
        maps: Maps = self.head(template, levels[-1])
        return maps._replace(levels=levels)

    def patches(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """What is in and around boxes of search crops.

        levels: of the crops, see `Maps`. boxes: (N, 4) cx, cy, w, h, search px. Returns patches (N, 64, 16, 16).
        """
        return self.refiner.patches(levels, boxes[:, None])

    def refine(self, known: Tensor, seen: Tensor, boxes: Tensor) -> Tensor:
        """Make boxes better.

        known, seen: (N, 64, 16, 16) `patches` of the targets and of `boxes`. boxes: (N, 4) cx, cy, w, h, search px.
        Returns (N, 5): better boxes, and the logit of each being right.
        """
        return self.refiner(known, seen, boxes)


NETWORKS: dict[NetworkName, type[SiameseNet]] = {"siamfc": SiamFC, "swift": Swift, "swift-nano": SwiftNano}


def build_network(config: ModelConfig) -> SiameseNet:
    """The network that a config describes, not trained yet."""
    return NETWORKS[config.network](config)


def without_patch(features: Tensor) -> Template:
    """A template of a network that has no refiner."""
    return Template(features, features.new_zeros(len(features), 0))


def cells_along(size: int, stride: int) -> int:
    """Cells along one axis of padded features of a crop, px."""
    return -(-size // stride)


def to_input(crops: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """(N, H, W, 3) uint8 RGB crops -> (N, 3, H, W) float32 in [0, 255] on `device`."""
    planes = np.ascontiguousarray(crops.transpose(0, 3, 1, 2))  # while they are bytes: a quarter of the memory
    return torch.from_numpy(planes).to(device).to(torch.float32)
