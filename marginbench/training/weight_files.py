"""Files of weights that others wrote, safetensors or PyTorch's: nothing in them is run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from marginbench.data.formats.archives import damage_named
from marginbench.errors import DamagedFile, UserError
from marginbench.files import open_regular
from marginbench.training.checkpoint_files import FIRST_BYTES, read_torch_file

_HEADER_START = slice(8, 9)
_WITHIN = ("state_dict", "model_state_dict", "model", "net")
"""Where training programs put the weights among other things."""
_WRAPPERS = ("_orig_mod.", "module.")


def read_weight_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    A safetensors file, or one of ``torch.save``: the tensors themselves, or under "state_dict" or
    "model". Prefixes that torch's wrappers for compilation and several processes add are removed.

    Args:
        path: there is such a file.

    Raises:
        DamagedFile: it is neither, does not read well, or holds other things than plain values and
            tensors.
        UserError: it is a safetensors file, and the library is not installed.
    """
    with damage_named(path), open_regular(path) as file:
        start = file.read(16)
    if start.startswith(FIRST_BYTES):
        content: Any = read_torch_file(path)
    elif start[_HEADER_START] == b"{":
        content = _read_safetensors(path)
    else:
        content = _read_former_format(path)
    if not isinstance(content, dict):
        raise DamagedFile(path, "it has no tensors with names")
    if {"backbone", "head", "optimiser"} <= content.keys():
        raise DamagedFile(
            path,
            "it is a checkpoint of a run; allowed: what `marginbench export CELL --to "
            "FILE.safetensors` writes",
        )
    for name in _WITHIN:
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    tensors = {
        _without_wrappers(name): value
        for name, value in content.items()
        if type(name) is str and isinstance(value, Tensor)
    }
    if not tensors:
        raise DamagedFile(path, "it has no tensors with names")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise UserError(
            f"{str(path)!r} needs {error.name}, which is not installed: "
            "pip install 'marginbench[export]'"
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise DamagedFile(path, f"it is no whole file of safetensors ({words})") from None


def _read_former_format(path: Path) -> Any:
    """What torch.save wrote before version 1.6; by torch's reader that runs nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own words are several lines, and advise to load the file without restrictions.
        raise DamagedFile(
            path, f"it is no file of safetensors or PyTorch ({type(error).__name__})"
        ) from None


def _without_wrappers(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name
