"""Feature extractors. Stride and width are constants of the class, not of a config."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tracker.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photos, RGB in [0, 1]


def _channels(values: tuple[float, ...]) -> Tensor:
    """(1, 3, 1, 1) a value for each channel of pixels in [0, 255]."""
    pixels = np.array(values, np.float32) * np.float32(255)  # a product of PyTorch's on "meta" imports a compiler
    return torch.tensor(pixels).view(1, 3, 1, 1)


# RGB in [0, 255]: what trunks that were trained on ImageNet expect
IMAGENET_MEAN, IMAGENET_STD = _channels(MEAN), _channels(STD)


class AlexNet(nn.Module):
    """SiamFC's five-layer fully-convolutional trunk without padding (Bertinetto et al. 2016, table 1).

    Input (N, 3, H, W) RGB in [0, 255]; 127 px give 6x6 cells, 255 px 22x22. Module names follow the wide-spread
    checkpoint layout conv1 ... conv5 (siamfc-pytorch).
    """

    STRIDE = 8
    CHANNELS = 256

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
            # The batch-norm constants are those of the public SiamFC checkpoints.
            norm = nn.BatchNorm2d(outputs, eps=1e-6, momentum=0.05)
            return [nn.Conv2d(inputs, outputs, kernel, stride, groups=groups), norm, nn.ReLU(inplace=True)]

        self.conv1 = nn.Sequential(*block(3, 96, 11, stride=2), nn.MaxPool2d(3, 2))
        self.conv2 = nn.Sequential(*block(96, 256, 5, groups=2), nn.MaxPool2d(3, 2))
        self.conv3 = nn.Sequential(*block(256, 384, 3))
        self.conv4 = nn.Sequential(*block(384, 384, 3, groups=2))
        self.conv5 = nn.Sequential(nn.Conv2d(384, 256, 3, groups=2))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(N, 3, H, W) -> (N, 256, H', W')."""
        return (self.conv5(self.conv4(self.conv3(self.conv2(self.conv1(x))))),)


class InvertedResidual(nn.Module):
    """Expand, filter depth-wise, project (Sandler et al., MobileNetV2, 2018, section 3.3)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expand: int, kernel: int = 3, relu: type[nn.Module] = nn.ReLU6
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [nn.Conv2d(inputs, hidden, 1), relu(inplace=True)]
        layers += [nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden), relu(inplace=True)]
        layers += [nn.Conv2d(hidden, outputs, 1)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class FBNet(nn.Module):
    """FEAR-XS's trunk: the first stages of an FBNet (Wu et al., FBNet, 2019; Borsuk et al., FEAR, 2022, section 3.1).

    Input (N, 3, H, W) RGB in [0, 255]. Cell i of a map of stride s is centred on pixel s i; sizes 16 k + 1 keep the
    grid of cells centred on the crop. There is no batch-norm and no scale of pixels: both are folded into the
    convolutions.
    """

    STRIDE = 16
    FIRST = 0.5  # centre of cell 0, px
    CHANNELS = 112
    FINE, DETAIL = 5, 9  # stages up to the last one at stride 4 and at stride 8
    FINE_CHANNELS, DETAIL_CHANNELS = 24, 32
    STAGES = (  # expand, width, stride, kernel
        (1, 16, 1, 3), (6, 24, 2, 3), (1, 24, 1, 3), (1, 24, 1, 3), (6, 32, 2, 5), (3, 32, 1, 5), (6, 32, 1, 5),
        (6, 32, 1, 3), (6, 64, 2, 5), (3, 64, 1, 5), (6, 64, 1, 5), (6, 64, 1, 5), (6, 112, 1, 5), (6, 112, 1, 5),
        (6, 112, 1, 5), (3, 112, 1, 5),
    )  # fmt: skip
    COUNT = 1 + len(STAGES)  # of stages, the first convolution and every block

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", _channels(MEAN), persistent=False)
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(inplace=True))]
        width = 16
        for expand, outputs, stride, kernel in self.STAGES:
            layers.append(InvertedResidual(width, outputs, stride, expand, kernel, nn.ReLU))
            width = outputs
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> (N, 24, ceil(H / 4), ceil(W / 4)), and so 32 channels at stride 8, 112 at 16."""
        fine = self.features[: self.FINE](x - self.mean)
        detail = self.features[self.FINE : self.DETAIL](fine)
        return fine, detail, self.features[self.DETAIL :](detail)


class Gate(nn.Module):
    """Weighs every channel by what the whole map shows: squeeze and excitation (Hu et al., 2018, section 3).

    groups: of channels, each of which is weighed by its own alone. last: turns logits into weights in [0, 1].
    """

    def __init__(self, channels: int, hidden: int, last: nn.Module, groups: int = 1) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1, groups=groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, groups=groups),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)


class GatedResidual(nn.Module):
    """An inverted residual with a `Gate` (Howard et al., Searching for MobileNetV3, 2019, section 5).

    hidden: channels of the depth-wise convolution; as many as `inputs`: nothing is expanded. hard: h-swish, not ReLU.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, kernel: int, stride: int, gated: bool, hard: bool
    ) -> None:
        super().__init__()

        def activation() -> nn.Module:
            return nn.Hardswish(inplace=True) if hard else nn.ReLU(inplace=True)

        layers: list[nn.Module] = []
        if hidden != inputs:
            layers += [nn.Conv2d(inputs, hidden, 1), activation()]
        after: list[nn.Module] = [activation()]
        if gated:
            quarter = max(8, (hidden // 4 + 4) // 8 * 8)  # a multiple of 8
            gate = Gate(hidden, quarter, nn.Hardsigmoid())
            after = [gate, *after] if hidden != inputs else [*after, gate]  # as the published weights have it
        layers += [nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden), *after]
        layers += [nn.Conv2d(hidden, outputs, 1)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV3(nn.Module):
    """NanoTrack v3's trunk: the first stages of MobileNetV3-Small (Howard et al. 2019, table 2), stride 1 in the last.

    Input (N, 3, H, W) RGB in [0, 255], not normalised. There is no batch-norm: it is folded into the convolutions.
    """

    STRIDE = 16
    CHANNELS = 96
    STAGES = (  # kernel, hidden, width, gated, h-swish, stride
        (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 1),
    )  # fmt: skip
    COUNT = 1 + len(STAGES)  # of stages, the first convolution and every block

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.Hardswish(inplace=True))]
        inputs = 16
        for kernel, hidden, width, gated, hard, stride in self.STAGES:
            layers.append(GatedResidual(inputs, hidden, width, kernel, stride, gated, hard))
            inputs = width
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(N, 3, H, W) -> (N, 96, ceil(H / 16), ceil(W / 16))."""
        return (self.features(x),)


class MobileNetV2(nn.Module):
    """The first 14 stages of MobileNetV2 (Sandler et al. 2018, table 2), up to its native stride of 16.

    Input (N, 3, H, W) RGB in [0, 255]; sizes 16 k + 1 keep the grid of cells centred on the crop. There is no
    batch-norm: it would be frozen anyway (small batches), so `load_imagenet` folds it into the convolutions, which
    makes training and tracking faster.
    """

    STRIDE = 16
    CHANNELS = 96
    FINE, DETAIL = 4, 7  # stages up to the last one at stride 4 and at stride 8
    FINE_CHANNELS, DETAIL_CHANNELS = 24, 32
    STAGES: tuple[tuple[int, int, int, int], ...] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
    )  # expand, width, n, stride
    COUNT = 14  # of stages, the first convolution and every block

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", _channels(MEAN), persistent=False)
        self.register_buffer("std", _channels(STD), persistent=False)
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6(inplace=True))]
        width = 32
        for expand, outputs, repeat, stride in self.STAGES:
            for i in range(repeat):
                layers.append(InvertedResidual(width, outputs, stride if i == 0 else 1, expand))
                width = outputs
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> (N, 24, ceil(H / 4), ceil(W / 4)), and so 32 channels at stride 8, 96 at 16."""
        fine = self.features[: self.FINE]((x - self.mean) / self.std)
        detail = self.features[self.FINE : self.DETAIL](fine)
        return fine, detail, self.features[self.DETAIL :](detail)

    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a state dict in torchvision's naming, with its batch-norm folded in.

        Raises ValueError: an entry is missing.
        """
        norms = sorted({k.removesuffix(".running_mean") for k in state if k.endswith(".running_mean")}, key=_natural)
        convs = [m for m in self.features.modules() if isinstance(m, nn.Conv2d)]
        if len(norms) < len(convs):
            raise InputError(
                f"no ImageNet weights of a MobileNetV2: {len(norms)} batch-norm layers, {len(convs)} wanted"
            )
        with torch.no_grad():
            for conv, norm in zip(convs, norms, strict=False):
                *place, number = norm.split(".")
                weight = state[".".join([*place, str(int(number) - 1), "weight"])]
                gain = state[norm + ".weight"] / torch.sqrt(state[norm + ".running_var"] + 1e-5)
                conv.weight.copy_(weight * gain[:, None, None, None])
                assert conv.bias is not None
                conv.bias.copy_(state[norm + ".bias"] - state[norm + ".running_mean"] * gain)


class WholeMobileNetV2(MobileNetV2):
    """MobileNetV2 to its last block: 320 channels at stride 32.

    What a picture shows is in its last stages; where it is, a tracker asks the earlier ones.
    """

    STRIDE = 32
    CHANNELS = 320
    STAGES = (*MobileNetV2.STAGES, (6, 160, 3, 2), (6, 320, 1, 1))
    COUNT = 18


def _natural(name: str) -> list[int]:
    return [int(part) for part in name.split(".") if part.isdigit()]
