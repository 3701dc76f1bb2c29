"""Logistic regression: what makes a probability of evidence."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tracker.config import Logistic


def fit(evidence: NDArray[np.float64], right: NDArray[np.bool_], ridge: float = 1e-3) -> Logistic:
    """Logistic regression of `right` (N,) on `evidence` (N, D), with a ridge on the standardised weights."""
    mean, deviation = evidence.mean(0), evidence.std(0) + 1e-6
    x = torch.from_numpy((evidence - mean) / deviation)
    y = torch.from_numpy(right.astype(np.float64))
    w = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = x @ w[:-1] + w[-1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y) + ridge * w[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    weights = w[:-1].detach().numpy() / deviation
    bias = float(w[-1].detach()) - float(weights @ mean)
    return Logistic(tuple(round(float(v), 6) for v in weights), round(bias, 6))
