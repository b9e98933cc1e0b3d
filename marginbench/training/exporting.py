"""A finished cell's model as a file: safetensors or ONNX, checked against torch."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from marginbench.errors import UserError
from marginbench.files import output_file
from marginbench.runs.run_files import read_text
from marginbench.training.trained import Trained, images_of_cell, load_trained

OPSET = 17
CHECKED_IMAGES = 1_000
DRAWN_IMAGES = 256
BATCH = 128
TOLERANCE = 1e-4
"""Of features and logits, as a share of the largest absolute value of torch's."""


class ImagesToFeatures(nn.Module):
    """What is exported to ONNX: uint8 images (N, C, H, W) → features (N, D) and logits (N, K)."""

    mean_image: Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.backbone = trained.backbone.backbone
        self.head = trained.head
        self.register_buffer("mean_image", trained.backbone.mean_image)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images.float() / 255 - self.mean_image)
        return features, self.head.scores(features)


def export_model(
    run_folder: str | Path, to: str | Path, *, plugins: Sequence[str | Path] = ()
) -> tuple[float, int]:
    """Write the model of a finished cell, and check the file before it gets its name.

    A ``.safetensors`` file has the tensors ``backbone.*``, ``head.*`` and ``mean_image`` (C, H, W;
    the input is images / 255 − mean_image), and the cell as JSON in its metadata. An ``.onnx`` file
    has the input ``images``, uint8 (N, C, H, W) for any N, and the outputs ``features`` (N, D) and
    ``logits`` (N, K). Both have the names of the classes as JSON in their metadata. The check takes
    the cell's test images (else those that it verifies on), at most 1,000, through the model as
    read back from the file; without the cell's data, it takes images drawn from a seed.

    Args:
        run_folder: ``RUNS/SUITE/CELL-KEY``.
        to: the file; one that is there is replaced.
        plugins: see :func:`marginbench.training.trained.load_trained`.

    Returns:
        The largest difference of the features to torch's, and the number of images checked. A
        warning says if they are drawn, and why.

    Raises:
        UserError: another kind of file, a library that is not installed, a folder that cannot be
            written, a model that cannot be exported or computes otherwise, or as
            :func:`load_trained`.
    """
    path = Path(to)
    kinds: dict[str, tuple[Callable[..., None], Callable[..., tuple[Tensor, Tensor]]]] = {
        ".safetensors": (_write_safetensors, _run_safetensors),
        ".onnx": (_write_onnx, _run_onnx),
    }
    if path.suffix not in kinds:
        raise UserError(
            f"--to {str(path)!r} is not allowed; allowed: a file that ends in .safetensors or .onnx"
        )
    write, run = kinds[path.suffix]
    trained = load_trained(run_folder, plugins=plugins)
    images = _images(run_folder, trained)
    with _libraries_named(path), output_file(path) as temporary:
        names = json.dumps(trained.backbone.class_names)
        cell = read_text(Path(run_folder) / "cell.json")
        write(trained, temporary, {"cell": cell, "class_names": names})
        found = run(trained, temporary, images)
        difference = _check(path, trained, images, found)
    return difference, len(images)


def _images(run_folder: str | Path, trained: Trained) -> Tensor:
    try:
        return images_of_cell(run_folder)[:CHECKED_IMAGES]
    except UserError as error:
        reason = " ".join(str(error).split())
        warnings.warn(
            f"{run_folder}: checked on images drawn from a seed, not on test images: {reason}",
            stacklevel=3,
        )
    size = (DRAWN_IMAGES, *trained.backbone.mean_image.shape)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


@contextlib.contextmanager
def _libraries_named(path: Path) -> Iterator[None]:
    """A block that needs libraries, which may be missing, to write the file."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{str(path)!r} needs {error.name}, which is not installed: "
            "pip install 'marginbench[export]'"
        ) from error


def _check(path: Path, trained: Trained, images: Tensor, found: tuple[Tensor, Tensor]) -> float:
    expected = _outputs(trained, images)
    worst = 0.0
    for what, own, theirs in zip(("features", "logits"), expected, found, strict=True):
        difference = float((own - theirs).abs().max())
        largest = float(own.abs().max())
        if not difference <= TOLERANCE * largest + 1e-7:
            raise UserError(
                f"{str(path)!r} is not written: its {what} differ from torch's by {difference:.2g} "
                f"on {len(images):,} images; allowed: {TOLERANCE:g} of the largest, {largest:.3g}"
            )
        worst = max(worst, difference) if what == "features" else worst
    return worst


@torch.no_grad()
def _outputs(trained: Trained, images: Tensor) -> tuple[Tensor, Tensor]:
    features = torch.cat([trained.backbone(part) for part in images.split(BATCH)])
    return features, trained.head.logits(features)


def _write_safetensors(trained: Trained, path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    tensors = {f"backbone.{k}": v for k, v in trained.backbone.backbone.state_dict().items()}
    tensors |= {f"head.{k}": v for k, v in trained.head.state_dict().items()}
    tensors["mean_image"] = trained.backbone.mean_image
    # Its own copy of each: safetensors refuses tensors that share memory or are not contiguous.
    own = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    # The library's own writer ignores the umask, and has an error of its own for a full disk.
    path.write_bytes(save(own, metadata=metadata | {"format": "pt"}))


def _run_safetensors(trained: Trained, path: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    from safetensors.torch import load_file

    kept = [(m, {k: v.clone() for k, v in m.state_dict().items()}) for m in trained]
    read = load_file(os.fspath(path))
    try:
        for name, model in (("backbone", trained.backbone.backbone), ("head", trained.head)):
            start = f"{name}."
            model.load_state_dict(
                {k.removeprefix(start): v for k, v in read.items() if k.startswith(start)}
            )
        trained.backbone.mean_image.copy_(read["mean_image"])
        return _outputs(trained, images)
    finally:
        for model, state in kept:
            model.load_state_dict(state)


def _write_onnx(trained: Trained, path: Path, metadata: dict[str, str]) -> None:
    import onnx

    example = torch.zeros(2, *trained.backbone.mean_image.shape, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                ImagesToFeatures(trained).eval(),
                (example,),
                written := io.BytesIO(),  # type: ignore[arg-type]
                input_names=["images"],
                output_names=["features", "logits"],
                dynamic_axes={name: {0: "N"} for name in ("images", "features", "logits")},
                opset_version=OPSET,
                # The other exporter takes several times as long, and compiles parts of the head.
                dynamo=False,
            )
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            first = " ".join(str(error).split())[:300]
            raise UserError(f"this model cannot be written as ONNX: {first}") from error
    model = onnx.load_from_string(written.getvalue())
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def _run_onnx(trained: Trained, path: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"images": part.numpy()}) for part in images.split(BATCH)]
    features, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
    return torch.from_numpy(features), torch.from_numpy(logits)
