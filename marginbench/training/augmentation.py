"""Random crops and flips, drawn ahead from the seed and applied by a gather on the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from marginbench.experiments.cell_fields import Schedule
from marginbench.training.seeds import generator

PADDING = 4
SHIFTS = 2 * PADDING + 1
CODES = SHIFTS * SHIFTS * 2
"""A crop and flip in one byte: (dy·9 + dx)·2 + flip, dy and dx from 0 to 8 in the padded image."""


def draw_crop_flip(schedule: Schedule, seed: int) -> Tensor | None:
    """A crop and flip for every image of every batch; all of them equally likely.

    From a generator of its own, so that a run with augmentation sees the batches of one without.

    Returns:
        (iterations, batch_size), uint8, below :data:`CODES`; None without augmentation.
    """
    if schedule.augmentation == "none":
        return None
    shape = (schedule.iterations, schedule.batch_size)
    random = generator(seed, "augmentation")
    return torch.randint(CODES, shape, dtype=torch.uint8, generator=random)


class CropFlip:
    """Training images, padded once, from which any crop is read by one gather.

    The image less its mean is what is padded, with zeros, and then cropped; a pixel keeps the
    mean of the pixel where it came from. The gather yields channels-last memory as it is.

    Args:
        images: (N, C, H, W), uint8.
        mean_image: (C, H, W), float32, in [0, 1].
        device: where the padded images live, N·C·(H + 8)·(W + 8) bytes.
    """

    def __init__(self, images: Tensor, mean_image: Tensor, device: torch.device) -> None:
        self.shape = tuple(images.shape[1:])
        channels, height, width = self.shape
        self.pixels = (height + 2 * PADDING) * (width + 2 * PADDING)
        # (N·P, C): one row a pixel, so that a row is what the gather fetches.
        padded = _pad(images).permute(0, 2, 3, 1).reshape(-1, channels)
        self.rows = padded.contiguous().to(device)
        mean_rows = _pad(mean_image[None]).permute(0, 2, 3, 1).reshape(-1, channels)
        self.mean_rows = mean_rows.contiguous().to(device)
        self.sources = _sources(height, width).to(device)

    def __call__(self, batch: Tensor, codes: Tensor) -> Tensor:
        """Indices (B,) and codes (B,), on the device → (B, C, H, W), float32, mean subtracted."""
        channels, height, width = self.shape
        indices = self.sources.index_select(0, codes.int())
        wanted = indices + batch.long()[:, None] * self.pixels
        pixels = self.rows.index_select(0, wanted.flatten()).float().div_(255)
        pixels.sub_(self.mean_rows.index_select(0, indices.flatten()))
        return pixels.view(len(batch), height, width, channels).permute(0, 3, 1, 2)


def _pad(images: Tensor) -> Tensor:
    return F.pad(images, (PADDING,) * 4)


def _sources(height: int, width: int) -> Tensor:
    """(CODES, H·W), int64: which pixel of the padded image each pixel of the crop comes from."""
    code = torch.arange(CODES)
    flip, shift = code % 2, code // 2
    dy, dx = shift // SHIFTS, shift % SHIFTS
    y = torch.arange(height)[None, :] + dy[:, None]
    x = torch.arange(width).expand(CODES, width)
    x = torch.where(flip[:, None] == 1, width - 1 - x, x) + dx[:, None]
    return (y[:, :, None] * (width + 2 * PADDING) + x[:, None, :]).flatten(1)
