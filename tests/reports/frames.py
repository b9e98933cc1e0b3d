"""Results frames made by hand, as marginbench.runs.results makes them."""

import json

import pandas as pd

from marginbench.runs.results import COLUMNS


def row(head="softmax", m=None, seed=0, error=0.1, **fields):
    """One finished cell; fields override."""
    parameters = {} if m is None else {"m": m}
    values = {
        "setting": "MNIST (Table 2)",
        "comparison": "c",
        "label": head if m is None else f"{head} m={m}",
        "head": head,
        "head_parameters": parameters,
        "head_key": f"{head} {fields.get('head_parameters', parameters)}",
        "is_baseline": head == "softmax",
        "seed": seed,
        "state": "done",
        "message": "",
        "iteration": 10,
        "iterations": 10,
        "train_error": None if error is None else error / 2,
        "test_error": error,
        "device": "cpu",
        "data": "mnist",
        "data_parameters": {},
        "backbone": "mnist",
        "backbone_parameters": {},
        "learning_rate": 0.1,
        "augmentation": "none",
        "precision": "float32",
        "feature_dimension": 8,
    }
    values |= fields
    network = {f"backbone.parameters.{k}": v for k, v in values["backbone_parameters"].items()}
    conditions = {
        "data.name": values["data"],
        **{f"data.parameters.{k}": v for k, v in values["data_parameters"].items()},
        "backbone.name": values["backbone"],
        **network,
        "optimiser.learning_rate": values["learning_rate"],
        "schedule.iterations": values["iterations"],
    }
    return values | {"conditions": conditions | fields.get("conditions", {})}


def verified(head, seed, value, **fields):
    """A row of an open set: no test images; pairs, retrieval and one-shot runs; fields override."""
    retrieval = {"precision_at_1": value, "r_precision": value, "map_at_r": value / 3}
    pairs = {"name": "pairs", "description": "made pairs", "folds": {"0": value, "1": value / 7}}
    values = {
        "setting": "open",
        "comparison": "o",
        "verification_accuracy": value,
        "verification": [pairs | {"thresholds": [0.5, 0.5], "retrieval": retrieval}],
        "map_at_r": value / 3,
        "one_shot_error": 1 - value / 9,
        "equal_within": 0.005,
        "max_seeds": 30.0,
        "first_look": 10.0,
        "spending": "obrien-fleming",
        "remarks": [],
    }
    return row(head, None, seed, None, **values | fields)


def frame(rows):
    """A frame with every column of the contract."""
    return pd.DataFrame(rows, columns=COLUMNS)


def with_history(rows, folder, iterations=(5, 10)):
    """The same rows with a run folder each, holding a history of two evaluations."""
    for number, values in enumerate(rows):
        run_folder = folder / f"run{number}"
        run_folder.mkdir()
        recorded = [
            {
                "iteration": iteration,
                "learning_rate": 0.1,
                "loss": 1.0,
                "train_error": values["train_error"] * factor,
                "test_error": values["test_error"] * factor,
            }
            for iteration, factor in zip(iterations, (2, 1), strict=True)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in recorded)
        (run_folder / "history.jsonl").write_text(lines)
        values |= {"folder": run_folder, "key": f"key{number}"}
    return rows
