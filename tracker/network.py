"""The Siamese networks: two images go through one trunk and their embeddings are compared. Stateless."""

from __future__ import annotations

import copy
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tracker.backbones import AlexNet, FBNet, MobileNetV3
from tracker.config import SIAMFC, ModelConfig, NetworkName, from_dict, parse_json, to_dict
from tracker.errors import CheckpointError, ConfigError
from tracker.footage.output import write_whole
from tracker.geometry import Grid
from tracker.heads import BoxHead, Maps, NanoHead, Refiner, ScoreHead, Template

T = TypeVar("T")
SCALE = ":scale"  # after the name of weights in 8 bits: the value of one step of each output


class SiameseNet(nn.Module, ABC):
    """`embed` an exemplar once, then `forward` it with every search region.

    config: the crop sizes that it was trained for, and how it is used; see `build_network`.
    """

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


def save_network(net: nn.Module, file: str | Path, half: bool = True, eight: bool = False) -> None:
    """Write the weights and `net.config` (a dataclass) as one safetensors file, whole or not at all.

    half: fp16. eight: matrices and kernels in 8 bits a number, with a scale for each output; kernels of one channel are
    few, and lose most by it: they are not.
    """
    state = {k: v.detach().cpu() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    if eight:
        for name, value in [(k, v) for k, v in state.items() if v.ndim > 1 and v.shape[1] > 1]:
            scale = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
            over = scale.view(-1, *[1] * (value.ndim - 1))
            state |= {name: (value / over).round().to(torch.int8), name + SCALE: scale}
    state = {
        k: (v.half() if half and v.is_floating_point() and not k.endswith(SCALE) else v).contiguous()
        for k, v in state.items()
    }
    write_whole(Path(file), save(state, metadata={"config": json.dumps(to_dict(net.config))}))


def load_network(file: str | Path) -> SiameseNet:
    """Read a network in evaluation mode: our safetensors, or a PyTorch state dict in the siamfc-pytorch layout.

    No code in the file is run. Raises FileNotFoundError; CheckpointError (truncated, foreign, wrong shapes).
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    if path.suffix == ".safetensors":
        config, state = read_safetensors(path, ModelConfig)
    else:
        config, state = SIAMFC, _read_siamfc_pytorch(path)
    net = build_network(config)
    fill_weights(net, state, f"{path}: not the weights of a {config.network}")
    return net.eval()


def average(nets: Sequence[SiameseNet]) -> SiameseNet:
    """The mean of the weights of networks that began with the same ones (Wortsman et al. 2022), as the last of them.

    Raises CheckpointError: their weights differ in kind.
    """
    net = copy.deepcopy(nets[-1])
    states = [other.state_dict() for other in nets]
    if any({k: v.shape for k, v in s.items()} != {k: v.shape for k, v in states[-1].items()} for s in states):
        raise CheckpointError(
            f"only networks of one kind have an average; these are {', '.join(other.config.network for other in nets)}"
        )
    mean = {
        k: torch.stack([s[k] for s in states]).mean(0) if v.is_floating_point() else v for k, v in states[-1].items()
    }
    net.load_state_dict(mean)
    return net


def fill_weights(net: nn.Module, state: dict[str, Tensor], complaint: str) -> None:
    """Put the weights `state` into `net`. Raises CheckpointError, which begins with `complaint`, if they do not fit."""
    check_shapes(net, state, complaint)
    broken = [k for k, v in state.items() if not torch.isfinite(v).all()]
    if broken:
        raise CheckpointError(f"{complaint}: {broken[0]!r} holds values that are no numbers")
    net.float().load_state_dict({k: v.float() for k, v in state.items()}, strict=False)


def check_shapes(net: nn.Module, state: dict[str, Tensor], complaint: str) -> None:
    """Raise CheckpointError, which begins with `complaint`, if the weights `state` do not fit into `net`."""
    expected = {k: v.shape for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    found = {k: v.shape for k, v in state.items()}
    wrong = [k for k in expected if found.get(k) != expected[k]] + [k for k in found if k not in expected]
    if wrong:
        raise CheckpointError(f"{complaint}: {len(wrong)} entries differ, first {wrong[0]!r}")


def read_safetensors(path: Path, cls: type[T]) -> tuple[T, dict[str, Tensor]]:
    """Config (a `cls`) and weights of a file. Raises CheckpointError: truncated, foreign, another kind of network."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        if "config" not in meta:
            raise CheckpointError(f"{path}: a safetensors file without a siamtrack config")
        for name in [k for k, v in state.items() if k + SCALE in state and state[k + SCALE].shape == v.shape[:1]]:
            steps = state.pop(name + SCALE).float()
            state[name] = state[name].float() * steps.view(-1, *[1] * (state[name].ndim - 1))
        return from_dict(cls, parse_json(meta["config"])), state
    except (SafetensorError, ConfigError) as error:
        raise CheckpointError(f"{path}: truncated or foreign weight file: {error}") from None


def _read_siamfc_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # PyTorch's own thoughts on foreign files
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise CheckpointError(f"{path}: truncated or foreign weight file ({type(error).__name__})") from None
    if not isinstance(state, dict) or "backbone.conv1.0.weight" not in state:
        raise CheckpointError(
            f"{path}: not a known layout; allowed: .safetensors of siamtrack, or a siamfc-pytorch state dict"
            " (backbone.conv1.0.weight ...)"
        )
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    # That layout keeps the response scale out of the file: 0.001, no shift.
    return {"head.scale": torch.tensor(1e-3), "head.bias": torch.zeros(()), **state}
