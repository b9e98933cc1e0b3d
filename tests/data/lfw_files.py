"""A made-up LFW: ten sets of people with noise for faces, in the files of the real one.

No two images are alike, so that a test can see which are trained on.
"""

import zlib

import numpy as np
from PIL import Image

SETS = 10
EACH = 5


def people_of_set(number):
    """Names and numbers of images of a set (from 1); as in LFW, many have only one."""
    return {f"Set{number}_Person_{k}": 1 + (k + number) % 4 for k in range(EACH)}


def write_image(path, person, number, size=(40, 40)):
    """Noise of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([zlib.crc32(person.encode()), number])
    pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def write_lfw(folder, images="lfw-deepfunneled", size=(40, 40)):
    """All images and the six protocol files; returns the folder."""
    sets = [people_of_set(number) for number in range(1, SETS + 1)]
    for people in sets:
        for person, count in people.items():
            for number in range(1, count + 1):
                file = folder / images / person / f"{person}_{number:04d}.jpg"
                write_image(file, person, number, size)
    blocks = [f"{len(p)}\n" + "".join(f"{n}\t{c}\n" for n, c in p.items()) for p in sets]
    (folder / "people.txt").write_text(f"{SETS}\n" + "".join(blocks))
    (folder / "pairs.txt").write_text(f"{SETS}\t2\n" + "".join(map(pairs_of, sets)))
    train = {n: c for p in sets[:7] for n, c in p.items()}
    test = {n: c for p in sets[7:] for n, c in p.items()}
    for name, people in (("Train", train), ("Test", test)):
        lines = "".join(f"{n}\t{c}\n" for n, c in people.items())
        (folder / f"peopleDev{name}.txt").write_text(f"{len(people)}\n{lines}")
        (folder / f"pairsDev{name}.txt").write_text("2\n" + pairs_of(people))
    return folder


def pairs_of(people):
    """Two pairs of one person and two of different people."""
    several = [name for name, count in people.items() if count > 1]
    names = list(people)
    same = "".join(f"{name}\t1\t2\n" for name in several[:2])
    return same + f"{names[0]}\t1\t{names[1]}\t1\n{names[2]}\t1\t{names[3]}\t1\n"


SMALL = {"crop": 32, "size": 16}
UNRESTRICTED = {"protocol": "unrestricted", "tested_set": 1, **SMALL}
VIEW1 = {"protocol": "view1", "threshold_share": 0.3, **SMALL}
