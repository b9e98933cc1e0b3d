"""The project's view 2 against a brute-force script written apart, on LFW's raw pixels.

Both take grey pixels and PCA as features; every fold's accuracy must be the same. (To one dimension
it need not be: all cosines are 1 or −1 then, up to a last bit that decides ties.)

    python benchmarks/check_lfw_protocol.py DATA
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from lfw_pixels_brute_force import CROP, SIZE, accuracies

from marginbench.data.choices.lfw_protocol import read_pairs
from marginbench.data.files.content import content_key
from marginbench.data.formats.images import Preprocessing
from marginbench.data.sources.lfw_images import find_image_folder, read_lfw_images
from marginbench.evaluation.verification_evaluation import evaluate_verification
from marginbench.experiments.cell_fields import Verification


def our_accuracies(protocol: Path, images: Path, dimensions: int) -> list[float]:
    """The accuracy on each fold, by the code that evaluates trained networks."""
    store = read_lfw_images(images, content_key(images), Preprocessing(SIZE, "grey", CROP))
    folds = read_pairs(protocol / "pairs.txt", folds=10)
    pairs = store.pairs(dict(enumerate(folds)), name="lfw", description="pixels", tested_folds=None)
    settings = Verification(centre=True, dimensions=dimensions)
    numbers, _ = evaluate_verification(pairs.images.flatten(1).numpy(), pairs, settings)
    area = numbers["characteristic"]["area"]
    print(
        f"ours: {100 * numbers['accuracy']:.3f} ± {100 * numbers['standard_error']:.3f} %, area "
        f"under ROC {area['value']:.4f} [{area['low']:.4f}, {area['high']:.4f}]"
    )
    return list(numbers["folds"].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with lfw/")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[10, 100])
    given = parser.parse_args()
    protocol = given.data / "lfw"
    images = find_image_folder(protocol)
    differ = False
    for dimensions in given.dimensions:
        started = time.monotonic()
        ours = our_accuracies(protocol, images, dimensions)
        seconds = time.monotonic() - started
        started = time.monotonic()
        theirs = accuracies(protocol, images, dimensions)
        print(
            f"{dimensions} dimensions, brute force: {100 * sum(theirs) / len(theirs):.3f} %; "
            f"{seconds:.0f} s and {time.monotonic() - started:.0f} s"
        )
        for fold, (own, other) in enumerate(zip(ours, theirs, strict=True), start=1):
            if own != other:
                differ = True
                print(f"  fold {fold}: {100 * own:.2f} % and {100 * other:.2f} %")
    print("they differ" if differ else "the same on every fold")
    sys.exit(differ)


if __name__ == "__main__":
    main()
