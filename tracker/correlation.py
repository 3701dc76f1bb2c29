"""Cross-correlation of search features with template features: pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def xcorr(template: Tensor, search: Tensor) -> Tensor:
    """Correlate each search with its own template (Bertinetto et al. 2016, equation 2).

    template: (N, C, h, w). search: (N, C, H, W). Returns (N, 1, H - h + 1, W - w + 1): sums over C, h, w.
    """
    n, c, height, width = search.shape
    response = F.conv2d(search.reshape(1, n * c, height, width), template, groups=n)
    return response.transpose(0, 1)


def xcorr_all(template: Tensor, search: Tensor) -> Tensor:
    """Correlate each search with every template: pairs across a batch are negatives for free.

    template: (M, C, h, w). search: (N, C, H, W). Returns (N, M, H - h + 1, W - w + 1).
    """
    return F.conv2d(search, template)


def xcorr_depthwise(template: Tensor, search: Tensor, padding: int = 0) -> Tensor:
    """Correlate channel by channel (Li et al., SiamRPN++, 2019, section 3.3).

    template: (N, C, h, w). search: (N, C, H, W). padding: zeros added on every side of `search`, p cells.
    Returns (N, C, H + 2 p - h + 1, W + 2 p - w + 1).
    """
    n, c, height, width = search.shape
    kernel = template.reshape(n * c, 1, *template.shape[2:])
    response = F.conv2d(search.reshape(1, n * c, height, width), kernel, padding=padding, groups=n * c)
    return response.reshape(n, c, *response.shape[2:])


def xcorr_pixelwise(template: Tensor, search: Tensor) -> Tensor:
    """Correlate every search cell with every template cell (Yan et al., Alpha-Refine, 2021, section 3.3).

    template: (N, C, h, w). search: (N, C, H, W). Returns (N, h w, H, W), divided by sqrt(C) so that its size does
    not depend on the width of the network.
    """
    # whole numbers: an exported graph computes no shape, and only the batch may vary
    _, c, height, width = map(int, search.shape)
    cells = int(template.shape[2]) * int(template.shape[3])
    parts = template.reshape(-1, c, cells).transpose(1, 2) * c**-0.5
    return torch.bmm(parts, search.reshape(-1, c, height * width)).reshape(-1, cells, height, width)
