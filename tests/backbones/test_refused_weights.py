"""Weights that a backbone cannot begin with: one line each, and nothing of a file is run."""

import io
import pickle

import pytest
import torch

from marginbench.errors import UserError
from tests.backbones.made_weights import begun, trained


class Runs:
    def __reduce__(self):
        return (print, ("it ran",))


def stored(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"none.pt' is no file \('none.pt' is relative to the data folder"),
        (b"no weights at all", "not readable: it is no file of safetensors or PyTorch"),
        (b"\x10\0\0\0\0\0\0\0{" + b"}" * 40, "not readable: it is no whole file of safetensors"),
        (pickle.dumps(Runs()), "not readable: it is no file of safetensors or PyTorch"),
        (stored(Runs()), "not readable: it holds"),
        (stored({"conv1.weight": 3}), "not readable: it has no tensors with names"),
        (
            stored({"backbone": {}, "head": {}, "optimiser": {}}),
            "it is a checkpoint of a run; allowed: what `marginbench export CELL",
        ),
        ("resnet10t", "of another model: .*size mismatch for conv1.0.weight"),
        ("test_vit", "of another model: no conv1.0.weight, conv1.1.weight, .* and .* more in it"),
        ("larger", "of another model: this one has no layer1.1.conv1.weight"),
        ("partly", "of another model: no layer4.0.conv1.weight in it"),
        ("infinite", "damaged: layer4.0.conv1.weight is not finite"),
    ],
)
def test_what_cannot_be_begun_with_is_named(content, words, places, capfd):
    file = places / "none.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        state = trained(
            content if "_" in content or "10" in content else "test_resnet"
        ).state_dict()
        if content == "larger":
            state["layer1.1.conv1.weight"] = state["layer1.0.conv1.weight"]
        elif content == "partly":
            del state["layer4.0.conv1.weight"]
        elif content == "infinite":
            state["layer4.0.conv1.weight"][0, 0] = torch.inf
        torch.save(state, file)
    with pytest.raises(UserError, match=words) as refusal:
        begun("timm:test_resnet", weights="none.pt")
    assert "\n" not in str(refusal.value)
    assert "'timm:test_resnet'" in str(refusal.value)
    assert "it ran" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "words"),
    [
        ("timm:resnet10t", (3, 9, 9), {"pretrained": True}, "not in timm's cache and cannot be fe"),
        ("timm:resnet18d", (3, 9, 9), {"pretrained": True, "weights": "a"}, "allowed: one of them"),
        ("timm:densenet264d", (3, 9, 9), {"pretrained": True}, "has no weights of it"),
        ("timm:test_resnet", (4, 9, 9), {"weights": "a"}, "images of 4 channels; allowed: 1"),
        ("small", (1, 8, 8), {"pretrained": True}, "no parameter 'pretrained'"),
        ("small", (1, 8, 8), {"frozen_normalisation": True}, "without weights .* with weights$"),
        ("small", (1, 8, 8), {"content": "00"}, "content = '00' is not allowed without weights"),
        ("timm:test_vit", (3, 64, 64), {"frozen_normalisation": True, "weights": "a"}, "has no ba"),
        ("small", (1, 8, 8), {"weights": "a"}, "not written by `marginbench export"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(name, shape, parameters, words, places):
    torch.save({"x": torch.zeros(1)}, places / "a")
    with pytest.raises(UserError, match=words) as refusal:
        begun(name, shape, **parameters)
    assert "\n" not in str(refusal.value)
    assert f"'{name}'" in str(refusal.value)
