"""LFW's view 2 on raw pixels, as slow and plain as can be: nothing of marginbench is imported.

Grey pixels of the central crop, PCA on nine folds, cosine, every threshold tried one by one. It is
what the project's protocol code is checked against (benchmarks/check_lfw_protocol.py).

    python benchmarks/lfw_pixels_brute_force.py DATA/lfw DATA/lfw/lfw-deepfunneled --dimensions 100
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA

CROP, SIZE = 96, 24


def pixels(file: Path) -> list[float]:
    """The grey values of an image's central crop, resized."""
    image = Image.open(file, formats=("JPEG",)).convert("L")
    left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
    image = image.crop((left, top, left + CROP, top + CROP))
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return [float(value) for value in np.asarray(image).flatten()]


def read_folds(protocol: Path) -> list[list[tuple[str, str, bool]]]:
    """The pairs of each fold as (file, file, same person)."""
    lines = (protocol / "pairs.txt").read_text().splitlines()
    folds, each = (int(word) for word in lines[0].split())
    found = []
    for fold in range(folds):
        pairs = []
        for line in lines[1 + fold * 2 * each : 1 + (fold + 1) * 2 * each]:
            words = line.split("\t")
            if len(words) == 3:
                name, first, second = words
                pairs.append((f"{name} {first}", f"{name} {second}", True))
            else:
                pairs.append((f"{words[0]} {words[1]}", f"{words[2]} {words[3]}", False))
        found.append(pairs)
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def accuracies(protocol: Path, images: Path, dimensions: int) -> list[float]:
    """The accuracy on each fold; the threshold and the PCA are those of the other nine."""
    folds = read_folds(protocol)
    features = {}
    for pairs in folds:
        for pair in pairs:
            for name in pair[:2]:
                person, number = name.rsplit(" ", 1)
                if name not in features:
                    file = images / person / f"{person}_{int(number):04d}.jpg"
                    features[name] = np.array(pixels(file))
    results = []
    for tested, pairs in enumerate(folds):
        others = [pair for fold, these in enumerate(folds) if fold != tested for pair in these]
        names = sorted({name for pair in others for name in pair[:2]})
        transform = PCA(dimensions, svd_solver="full").fit([features[name] for name in names])
        wanted = sorted(features)
        moved = dict(
            zip(wanted, transform.transform([features[name] for name in wanted]), strict=True)
        )
        scored = sorted((cosine(moved[a], moved[b]), same) for a, b, same in others)
        # Below the lowest score, then between each two neighbours, then above the highest.
        best, positions = -1, []
        right = sum(same for _, same in scored)
        for position in range(len(scored) + 1):
            if position > 0:
                right += -1 if scored[position - 1][1] else 1
            if right > best:
                best, positions = right, []
            if right == best:
                positions.append(position)
        position = positions[(len(positions) - 1) // 2]
        low = scored[position - 1][0] if position > 0 else -math.inf
        high = scored[position][0] if position < len(scored) else math.inf
        threshold = (low + high) / 2
        correct = sum((cosine(moved[a], moved[b]) >= threshold) == same for a, b, same in pairs)
        results.append(correct / len(pairs))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("protocol", type=Path, help="folder with pairs.txt")
    parser.add_argument("images", type=Path, help="folder with NAME/NAME_0001.jpg")
    parser.add_argument("--dimensions", type=int, default=100)
    given = parser.parse_args()
    found = accuracies(given.protocol, given.images, given.dimensions)
    for fold, accuracy in enumerate(found, start=1):
        print(f"fold {fold}: {100 * accuracy:.2f} %")
    print(f"mean: {100 * sum(found) / len(found):.3f} %")


if __name__ == "__main__":
    main()
