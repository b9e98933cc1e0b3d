"""The columns of the results frame."""

from __future__ import annotations

from marginbench.evaluation import RETRIEVAL

FEATURE_NUMBERS = (
    "angle_to_centre",
    "angle_between_centres",
    "angle_to_nearest_centre",
    "compactness_ratio",
    "feature_norm",
    "feature_norm_deviation",
    "calibration_error",
    "scaled_calibration_error",
    "temperature",
)
"""Of the test features (marginbench.evaluation.final); missing in folders of earlier versions."""

COLUMNS = [
    "suite",
    "setting",
    "comparison",
    "label",
    "head",
    "head_parameters",
    "is_baseline",
    "seed",
    "state",
    "message",
    "iteration",
    "iterations",
    "train_error",
    "test_error",
    "tested_by_class_means",
    "verification_accuracy",
    "verification_standard_error",
    "verification_of",
    *RETRIEVAL,
    "verification",
    "one_shot_error",
    "one_shot",
    "remarks",
    *FEATURE_NUMBERS,
    "feature_dimension",
    "num_classes",
    "class_names",
    "train_images",
    "test_images",
    "device",
    "processor",
    "cpu_capability",
    "code",
    "libraries",
    "seconds",
    "data",
    "data_parameters",
    "backbone",
    "backbone_parameters",
    "regulariser",
    "regulariser_parameters",
    "training",
    "learning_rate",
    "augmentation",
    "precision",
    "conditions",
    "equal_within",
    "max_seeds",
    "first_look",
    "spending",
    "key",
    "folder",
    "search",
]

NAMES = ("setting", "label", "message", "class_names", "remarks")
FRACTIONS = (
    "train_error",
    "test_error",
    "verification_accuracy",
    "verification_standard_error",
    *RETRIEVAL,
    "one_shot_error",
)
