"""Mean cosine between the features of two classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from marginbench.heads.geometry import direction


def class_cosine(features: Tensor, labels: Tensor, num_classes: int) -> np.ndarray:
    """Mean cosine between features of class a and of class b, a pair never an image with itself.

    The matrix of Liu et al., ICML 2016, Fig. 5. NaN where there is no such pair.

    Args:
        features: (N, D).
        labels: (N,), in [0, K).
        num_classes: K.

    Returns:
        (K, K), float64.
    """
    unit = direction(features.double())
    sums = unit.new_zeros(num_classes, unit.shape[1]).index_add_(0, labels, unit)
    counts = torch.bincount(labels, minlength=num_classes).double()
    # A zero feature has no direction: its cosine with itself is 0, not 1.
    own = unit.square().sum(dim=1)
    itself = own.new_zeros(num_classes).index_add_(0, labels, own)
    totals = sums @ sums.T - torch.diag(itself)
    pairs = torch.outer(counts, counts) - torch.diag(counts)
    return torch.where(pairs > 0, totals / pairs, torch.nan).cpu().numpy()
