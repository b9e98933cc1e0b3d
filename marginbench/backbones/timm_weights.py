"""Published weights of timm's models: their file, their normalisation, how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from marginbench.backbones.initial_weights import first_names, load_named
from marginbench.errors import UserError

CHANNELS = 3


def published_file(model_name: str) -> Path:
    """The file of a model's published weights in timm's cache, fetched on first use.

    The cache is the Hugging Face hub's (``HF_HOME``), or for what is published elsewhere that of
    torch hub (``TORCH_HOME``).

    Args:
        model_name: as timm has it, with or without a tag: "resnet18", "resnet18.a1_in1k".

    Raises:
        UserError: nothing is published for the model, or it is not here and cannot be fetched.
    """
    import timm
    from timm.models import _hub

    owner = f"backbone 'timm:{model_name}': pretrained = True"
    published = timm.get_pretrained_cfg(model_name)
    if published is None or not published.has_weights or published.custom_load:
        raise UserError(
            f"{owner} is not allowed, as timm {timm.__version__} has no weights of it; allowed: "
            "weights = FILE, or a model of timm.list_pretrained()"
        )
    try:
        if published.file:
            return Path(published.file)
        if published.hf_hub_id:
            name = published.hf_hub_filename or _hub.HF_WEIGHTS_NAME
            return _from_hub(published.hf_hub_id, name)
        return Path(_hub.download_cached_file(published.url or ""))
    except Exception as error:
        # The hub's client and urllib have nearly any exception for a network that is not there.
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{owner}: its weights are not in timm's cache and cannot be fetched ({words}); fetch "
            "them where there is a network, or give weights = FILE"
        ) from error


def _from_hub(model: str, name: str) -> Path:
    """A file of the hub, as safetensors where it is there so.

    What is in the cache is taken as it is: the hub's client would ask the network for a newer one,
    and where there is none only give up after many tries, in every process of a cluster.
    """
    import huggingface_hub
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError, logging
    from timm.models import _hub

    repository, revision = _hub.hf_split(model)
    names = [name]
    if not name.endswith(".safetensors"):
        names = [*_hub._get_safe_alternatives(name), name]
    for one in names:
        cached = huggingface_hub.try_to_load_from_cache(repository, one, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    verbosity = logging.get_verbosity()
    # Its warnings, two lines a try, say what the refusal says.
    logging.set_verbosity_error()
    try:
        for one in names[:-1]:
            try:
                return Path(huggingface_hub.hf_hub_download(repository, one, revision=revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
        return Path(huggingface_hub.hf_hub_download(repository, names[-1], revision=revision))
    finally:
        logging.set_verbosity(verbosity)


def normalisation(model_name: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the pixels, (3,) each, in [0, 1], that a model's weights expect."""
    import timm

    published = timm.get_pretrained_cfg(model_name)
    mean = (0.0,) if published is None else published.mean
    deviation = (1.0,) if published is None else published.std
    return torch.tensor(mean).expand(CHANNELS), torch.tensor(deviation).expand(CHANNELS)


def load_published(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    create: Callable[[Mapping[str, Tensor]], nn.Module],
) -> None:
    """Take over weights in timm's layout, converted as timm does it (position embeddings, say).

    Args:
        model: without its classifier; changed in place.
        tensors: by name; a classifier among them is left out.
        create: makes the same model anew with weights that timm converts.

    Raises:
        UserError: they are another model's: one is missing, too many or of another shape.
    """
    own = model.state_dict()
    made = create(tensors)
    # timm tells nobody which it did not find. Where all are missing numbers, those that it found
    # are missing in the model.
    marked = create({name: _missing(tensor) for name, tensor in tensors.items()}).state_dict()
    absent = [name for name, value in marked.items() if _is_kept(value)]
    if absent:
        raise UserError(f"of another model: no {first_names(absent)} in it")
    classifier = _classifier_names(model)
    unknown = [n for n in tensors if n not in own and not n.startswith(classifier)]
    # With none of them renamed, what is left over is of a larger model.
    if unknown and own.keys() <= tensors.keys():
        raise UserError(f"of another model: this one has no {first_names(unknown)}")
    load_named(model, made.state_dict())


def _missing(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor


def _is_kept(value: Tensor) -> bool:
    return value.is_floating_point() and not bool(torch.isnan(value).any())


def _classifier_names(model: nn.Module) -> tuple[str, ...]:
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
