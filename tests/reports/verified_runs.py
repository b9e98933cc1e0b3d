"""Finished runs with real verification numbers."""

import numpy as np

from marginbench.evaluation import RETRIEVAL
from marginbench.evaluation.verification_evaluation import evaluate_verification
from marginbench.experiments.cell_fields import Verification
from tests.evaluation.test_verification_evaluation import made_up
from tests.reports.frames import row


def verified(
    folder,
    head="softmax",
    seed=0,
    tested=None,
    noise=0,
    sets=("made-up",),
    shown=False,
    **fields,
):
    """A finished run with real verification numbers, its arrays in a run folder."""
    arrays, entries = {}, []
    for name in sets:
        features, pairs = made_up(seed=1, tested=tested)
        random = np.random.default_rng([seed, int(10 * noise)])
        features = features + noise * random.normal(size=features.shape)
        pairs = type(pairs)(**{**vars(pairs), "name": name, "may_be_shown": shown})
        numbers, of_pairs = evaluate_verification(features, pairs, Verification())
        entries.append(numbers)
        arrays |= {f"verification/{name}/{key}": array for key, array in of_pairs.items()}
    run_folder = folder / f"{head}-{seed}-{tested}"
    run_folder.mkdir(parents=True)
    np.savez(run_folder / "evaluation.npz", **arrays)
    values = {
        "setting": "faces",
        "data": "lfw",
        "verification": entries,
        "verification_accuracy": entries[0]["accuracy"],
        "verification_of": entries[0]["description"],
        "verification_standard_error": entries[0]["standard_error"],
        **{name: entries[0]["retrieval"][name] for name in RETRIEVAL},
        "remarks": [],
        "test_images": 0,
        "folder": run_folder,
    }
    return row(head, None, seed, None, train_error=0.0, **(values | fields))


def table(content, name):
    return next(t.frame for t in content.tables if t.name.startswith(name))
