"""Randomness: one generator for each source, all derived from the cell's seed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def derived_seed(seed: int, source: str) -> int:
    """A 63-bit seed for one source of randomness ("backbone", "head", "data", "dropout/12/0").

    The sources are independent: a head that draws more numbers leaves the batch order as it is.
    """
    digest = hashlib.sha256(f"{seed}/{source}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, source: str) -> torch.Generator:
    """A CPU generator for one source of randomness, so that every device sees the same draws."""
    return torch.Generator().manual_seed(derived_seed(seed, source))


def seed_draws(seed: int, source: str, device: torch.device) -> None:
    """Put torch's global generators, the CPU's and the device's, at the source's seed.

    Dropout draws from these, since its functions take no generator.
    """
    number = derived_seed(seed, source)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


@contextlib.contextmanager
def seeded(seed: int, source: str) -> Iterator[None]:
    """Within it, torch's global CPU generator stands at the source's seed; it is restored after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, source))
        yield
