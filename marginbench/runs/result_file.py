"""What a result.json must hold, and reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt

from marginbench.errors import DamagedFile
from marginbench.runs.run_files import StoredModel, checked, read_json

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Retrieval(StoredModel):
    precision_at_1: Fraction
    r_precision: Fraction
    map_at_r: Fraction
    recall_at: list[list[FiniteFloat]]
    queries: NonNegativeInt
    images: NonNegativeInt
    classes: NonNegativeInt


class _OneShot(StoredModel):
    runs: list[Fraction]
    ways: list[NonNegativeInt]


class _Verification(StoredModel):
    name: str
    description: str
    folds: dict[str, FiniteFloat]
    thresholds: list[FiniteFloat]
    # Of results that were made before it was measured there is none.
    retrieval: _Retrieval | None = None


class _Result(StoredModel):
    """The fields of result.json that are read, by their types."""

    key: str
    outcome: Literal["finished", "diverged"]
    reason: str
    iteration: NonNegativeInt
    train_error: Fraction
    test_error: Fraction | None
    device: str
    tested_by_class_means: bool | None = None
    feature_dimension: NonNegativeInt | None = None
    num_classes: NonNegativeInt | None = None
    train_images: NonNegativeInt | None = None
    test_images: NonNegativeInt | None = None
    class_names: list[str] | None = None
    remarks: list[str] | None = None
    verification_accuracy: Fraction | None = None
    verification_standard_error: FiniteFloat | None = None
    verification_of: str | None = None
    precision_at_1: Fraction | None = None
    r_precision: Fraction | None = None
    map_at_r: Fraction | None = None
    verification: list[_Verification] | None = None
    angle_to_centre: FiniteFloat | None = None
    angle_between_centres: FiniteFloat | None = None
    angle_to_nearest_centre: FiniteFloat | None = None
    compactness_ratio: FiniteFloat | None = None
    feature_norm: FiniteFloat | None = None
    feature_norm_deviation: FiniteFloat | None = None
    calibration_error: Fraction | None = None
    scaled_calibration_error: Fraction | None = None
    temperature: FiniteFloat | None = None
    one_shot_error: Fraction | None = None
    one_shot: _OneShot | None = None


def read_result_file(path: Path, key: str) -> dict[str, Any]:
    """A result.json.

    Args:
        path: the file.
        key: of the cell whose result it must be.

    Raises:
        DamagedFile: it does not read well, or is another cell's.
    """
    result = read_json(path)
    checked(path, _Result, result)
    if result["key"] != key:
        raise DamagedFile(path, f"it is the result of the cell {result['key']!r}")
    if result["test_error"] is None and result.get("test_images") != 0:
        raise DamagedFile(path, "test_error = None; allowed: number from 0 to 1")
    return result
