"""Identification: whose image is this, among people known by one image each?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FALSE_ALARM_RATES = (1e-1, 1e-2)
_CHUNK = 2048


@dataclass(frozen=True)
class Identification:
    """Rank-1 rates.

    Attributes:
        gallery: people known, by one image each.
        probes: further images of these people.
        rank_one: the share of probes whose most similar gallery image is their own person's.
        strangers: images of people who are not in the gallery.
        open_set: (false alarm rate, detection and identification rate): the share of probes that
            are identified rightly at a threshold that so many strangers at most pass; None where
            the strangers are too few to measure it.
    """

    gallery: int
    probes: int
    rank_one: float
    strangers: int
    open_set: tuple[tuple[float, float | None], ...]


def identification(features: np.ndarray, people: np.ndarray) -> Identification | None:
    """Rank-1 identification, closed and open set, by the cosine of the features.

    The gallery holds the first image of everyone with two or more; their further images are the
    probes; the images of everyone else are the strangers. A tie of the right person with a wrong
    one counts as wrong. Phillips, Grother and Micheals, Handbook of Face Recognition, 2011,
    chapter 21.

    Args:
        features: (M, D), of length 1 or 0.
        people: (M,), integers.

    Returns:
        None with fewer than two people of two images.
    """
    _, person, count = np.unique(people, return_inverse=True, return_counts=True)
    firsts = np.unique(person, return_index=True)[1]
    gallery = firsts[count >= 2]
    if len(gallery) < 2:
        return None
    known = count[person] >= 2
    is_probe = known.copy()
    is_probe[gallery] = False
    right, score = _nearest(features[is_probe], person[is_probe], features, person, gallery)
    _, alarm = _nearest(features[~known], person[~known], features, person, gallery)
    return Identification(
        gallery=len(gallery),
        probes=int(is_probe.sum()),
        rank_one=float(right.mean()),
        strangers=len(alarm),
        open_set=tuple((rate, _detected(right, score, alarm, rate)) for rate in FALSE_ALARM_RATES),
    )


def _nearest(
    probes: np.ndarray,
    probe_person: np.ndarray,
    features: np.ndarray,
    person: np.ndarray,
    gallery: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the most similar gallery image is the probe's own person's, and how similar it is."""
    right, score = np.zeros(len(probes), dtype=bool), np.zeros(len(probes))
    for start in range(0, len(probes), _CHUNK):
        part = slice(start, start + _CHUNK)
        similar = probes[part] @ features[gallery].T
        own = probe_person[part, None] == person[gallery]
        best_own = np.where(own, similar, -np.inf).max(axis=1)
        best_other = np.where(own, -np.inf, similar).max(axis=1)
        right[part] = best_own > best_other
        score[part] = np.maximum(best_own, best_other)
    return right, score


def _detected(right: np.ndarray, score: np.ndarray, alarm: np.ndarray, rate: float) -> float | None:
    allowed = int(np.floor(rate * len(alarm) + 1e-9))
    if allowed < 1:
        return None
    # Above the strangers' score number "allowed" + 1, so that at most "allowed" of them pass.
    threshold = np.sort(alarm)[::-1][allowed] if allowed < len(alarm) else -np.inf
    return float((right & (score > threshold)).mean())
