"""Slow, obvious float64 twins of the fast kernels: the twin is the specification."""

from __future__ import annotations

import math

import numpy as np

from tracker.geometry import CropWindow, iou


def crop(frame, window: CropWindow, fill):
    """Area-average whole blocks when the window shrinks, then sample bilinearly between pixel centres."""
    wide, high = max(1, int(window.w / window.size)), max(1, int(window.h / window.size))
    across, down = window.w / window.size, window.h / window.size
    x0 = y0 = 0
    if wide > 1 or high > 1:
        x0, y0 = int(np.floor(window.x)) - wide, int(np.floor(window.y)) - high

    def pixel(row, col):  # mean of one block; fill outside the frame
        total = np.zeros(3)
        for r in range(y0 + row * high, y0 + (row + 1) * high):
            for c in range(x0 + col * wide, x0 + (col + 1) * wide):
                inside = 0 <= r < frame.shape[0] and 0 <= c < frame.shape[1]
                total += frame[r, c] if inside else np.asarray(fill)
        return total / (wide * high)

    out = np.zeros((window.size, window.size, 3))
    for v in range(window.size):
        for u in range(window.size):
            x = ((u + 0.5) * across + window.x - x0) / wide - 0.5
            y = ((v + 0.5) * down + window.y - y0) / high - 0.5
            c, r = int(np.floor(x)), int(np.floor(y))
            a, b = x - c, y - r
            top = (1 - a) * pixel(r, c) + a * pixel(r, c + 1)
            bottom = (1 - a) * pixel(r + 1, c) + a * pixel(r + 1, c + 1)
            out[v, u] = (1 - b) * top + b * bottom
    return out


def xcorr(template, search):
    """Valid cross-correlation, summed over channels. template (C, h, w), search (C, H, W)."""
    _, h, w = template.shape
    rows, cols = search.shape[1] - h + 1, search.shape[2] - w + 1
    return np.array([[(template * search[:, r : r + h, c : c + w]).sum() for c in range(cols)] for r in range(rows)])


def block_mean(image, wide, high):
    """image: (R high, C wide, 3)."""
    rows, columns = image.shape[0] // high, image.shape[1] // wide
    return image.reshape(rows, high, columns, wide, 3).astype(np.float64).mean(axis=(1, 3))


def colour_shares(pixels, inside):
    colours = [tuple(pixel // 32) for pixel in pixels[inside]]
    return np.array([colours.count((b, g, r)) for b in range(8) for g in range(8) for r in range(8)]) / len(colours)


def stretched(box_map, factors):
    """Each box as centre and size, the size stretched, and back to distances."""
    near, far = box_map[:, :2].astype(np.float64), box_map[:, 2:].astype(np.float64)
    centre, half = (far - near) / 2, (near + far) / 2 * factors[:, :, None, None]
    return np.concatenate([half - centre, half + centre], axis=1)


def decode_peaks(logits, box_map, window, first, stride, width, height, penalty_k, window_influence, count):
    """Scores of all cells at once, then the arg max, again and again without the cells that it explains."""
    left, top, right, bottom = box_map.astype(np.float64)
    w, h = left + right, top + bottom
    rows, cols = np.indices(logits.shape)
    x, y = first + stride * cols, first + stride * rows
    boxes = np.stack([x - left, y - top, w, h], axis=-1)

    def overall(a, b):
        return np.sqrt((a + (a + b) / 2) * (b + (a + b) / 2))

    def change(ratio):
        return np.maximum(ratio, 1 / ratio)

    penalty = np.exp(
        -penalty_k * (change((w / h) / (width / height)) * change(overall(w, h) / overall(width, height)) - 1)
    )
    score = 1 / (1 + np.exp(-logits.astype(np.float64)))
    total = (1 - window_influence) * penalty * score + window_influence * window
    free, peaks = np.ones(logits.shape, bool), []
    while free.any() and len(peaks) < count:
        r, c = np.unravel_index(np.argmax(np.where(free, total, -1)), total.shape)
        bx, by, bw, bh = boxes[r, c]
        overlap = iou(boxes[r, c], boxes)
        around = (abs(rows - r) <= 1) & (abs(cols - c) <= 1) & ((rows != r) | (cols != c))
        agreement = (score * overlap)[around].sum() / score[around].sum()
        peaks.append((bx + bw / 2, by + bh / 2, bw, bh, logits[r, c], penalty[r, c], agreement))
        free &= (overlap <= 0.2) & ~((bx <= x) & (x <= bx + bw) & (by <= y) & (y <= by + bh))
        free[r, c] = False
    return np.array(peaks)


def cubic_matrix(cells, factor, a=-0.75):
    """(cells * factor, cells) matrix of bicubic up-sampling with repeated borders."""
    matrix = np.zeros((cells * factor, cells))
    for u in range(cells * factor):
        position = (u + 0.5) / factor - 0.5
        for source in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            d = abs(position - source)
            if d < 1:
                weight = (a + 2) * d**3 - (a + 3) * d**2 + 1
            elif d < 2:
                weight = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            else:
                weight = 0.0
            matrix[u, min(max(source, 0), cells - 1)] += weight
    return matrix


def pyramid_peak(response, window, stride, factor, scale_penalty, window_influence):
    """Up-sample every scale, penalise, choose, normalise, mix with the window, refine the peak."""
    up = cubic_matrix(response.shape[1], factor)
    maps = [up @ r.astype(np.float64) @ up.T for r in response]
    middle = len(maps) // 2
    peaks = [m.max() for m in maps]
    peaks = [p if i == middle else (p * scale_penalty if p > 0 else p / scale_penalty) for i, p in enumerate(peaks)]
    best = max(range(len(maps)), key=lambda i: (peaks[i], i == middle))
    chosen = maps[best]
    shifted = chosen - chosen.min()
    mixed = (1 - window_influence) * shifted / (shifted.sum() + 1e-16) + window_influence * window
    v, u = np.unravel_index(np.argmax(mixed), mixed.shape)

    def top(before, peak, after):
        curvature = before - 2 * peak + after
        return 0.0 if curvature >= 0 else float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5))

    last = len(mixed) - 1
    du = top(mixed[v, u - 1], mixed[v, u], mixed[v, u + 1]) if 0 < u < last else 0.0
    dv = top(mixed[v - 1, u], mixed[v, u], mixed[v + 1, u]) if 0 < v < last else 0.0
    centre = last / 2
    return best, (u + du - centre) / factor * stride, (v + dv - centre) / factor * stride, chosen[v, u]


def giou(a, b):
    """Generalised IoU of two boxes (x, y, w, h)."""
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    iw = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    ih = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    union = aw * ah + bw * bh - iw * ih
    hull = (max(ax + aw, bx + bw) - min(ax, bx)) * (max(ay + ah, by + bh) - min(ay, by))
    return iw * ih / union - (hull - union) / hull


def diou(a, b):
    """Distance-IoU of two boxes (x, y, w, h): IoU less (distance of the centres / diagonal of the hull)^2."""
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    iw = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    ih = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    distance = (ax + aw / 2 - bx - bw / 2) ** 2 + (ay + ah / 2 - by - bh / 2) ** 2
    diagonal = (max(ax + aw, bx + bw) - min(ax, bx)) ** 2 + (max(ay + ah, by + bh) - min(ay, by)) ** 2
    return iw * ih / (aw * ah + bw * bh - iw * ih) - distance / diagonal


def sample_region(level, box, region, cells, stride, size):
    """(C, cells, cells): a level (C, h, w) read point by point, on a grid `region` times as wide as `box`."""
    cx, cy, w, h = box
    height, width = level.shape[1:]
    out = np.zeros((len(level), cells, cells))
    for r in range(cells):
        for c in range(cells):
            x = cx + region * w * ((c + 0.5) / cells - 0.5)
            y = cy + region * h * ((r + 0.5) / cells - 0.5)
            u = (x - (size - (width - 1) * stride) / 2) / stride
            v = (y - (size - (height - 1) * stride) / 2) / stride
            for i in range(math.floor(v), math.floor(v) + 2):
                for j in range(math.floor(u), math.floor(u) + 2):
                    if 0 <= i < height and 0 <= j < width:
                        out[:, r, c] += (1 - abs(v - i)) * (1 - abs(u - j)) * level[:, i, j]
    return out
