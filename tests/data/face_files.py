"""Tiny face sets: folders of people, and a ``.bin`` file of pairs."""

import pickle

from tests.data.lfw_files import write_image
from tests.data.record_files import (
    png,
)


def write_bin(path, pairs=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(1000 + number) for number in range(2 * pairs)]
    path.write_bytes(pickle.dumps((images, [k % 2 == 0 for k in range(pairs)])))


def write_people(folder, people, size=(20, 20)):
    for person, count in people.items():
        for number in range(count):
            write_image(folder / person / f"{number}.jpg", person, number, size)


BIN = {"verify": ["lfw.bin"], "size": 16}
