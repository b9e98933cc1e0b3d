"""The loop: repeatable to the bit, the same batches for every head, resumable at any step."""

import io
import itertools
import os

import numpy as np
import pytest
import torch
from PIL import Image

from marginbench.errors import DamagedFile, UserError
from marginbench.evaluation import RETRIEVAL
from marginbench.evaluation.class_cosine import class_cosine
from marginbench.experiments.cell_fields import Optimiser, Schedule, Verification
from marginbench.plugins.component import Component
from marginbench.runs.cell_status import State
from marginbench.training import loop as training
from marginbench.training.experiment import build_experiment
from marginbench.training.loop import Interrupted
from marginbench.training.optimisers import learning_rate
from tests.conftest import files_of, tiny_cell, train_cell

CPU = torch.device("cpu")


@pytest.mark.parametrize("head", ["softmax", "l-softmax", "contrastive", "arcface"])
def test_the_same_cell_twice_gives_the_same_bytes(head, tmp_path):
    cell = tiny_cell(head)
    _, first = train_cell(cell, tmp_path / "a")
    _, second = train_cell(cell, tmp_path / "b")
    assert files_of(first) == files_of(second)


def test_another_seed_gives_another_run(tmp_path):
    _, first = train_cell(tiny_cell(seed=0), tmp_path)
    _, second = train_cell(tiny_cell(seed=1), tmp_path)
    assert first.read_history() != second.read_history()


def test_heads_of_a_comparison_share_batches_and_backbone():
    experiments = [
        build_experiment(tiny_cell(head), CPU)
        for head in ("softmax", "arcface", "contrastive", "l-softmax")
    ]
    for other in experiments[1:]:
        assert torch.equal(experiments[0].batches, other.batches)
        for name, tensor in experiments[0].backbone.state_dict().items():
            assert torch.equal(tensor, other.backbone.state_dict()[name])
        assert torch.equal(experiments[0].head.weight, other.head.weight)


def test_every_parameter_is_in_the_optimiser_once():
    experiment = build_experiment(tiny_cell("l-softmax"), CPU)
    groups = experiment.optimiser.param_groups
    optimised = [id(p) for group in groups for p in group["params"]]
    models = (experiment.backbone, experiment.head)
    wanted = [id(p) for model in models for p in model.parameters()]
    assert sorted(optimised) == sorted(wanted)
    assert id(experiment.head.weight) in {id(p) for p in groups[0]["params"]}
    assert groups[0]["weight_decay"] == 5e-4
    assert all(p.ndim < 2 for p in groups[1]["params"])
    assert groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("head", ["softmax", "l-softmax"])
@pytest.mark.parametrize("stop_at", [1, 5, 6, 13, 23])
def test_a_run_stopped_at_any_step_ends_like_one_that_was_not(head, stop_at, tmp_path):
    extra = {"m": 2, "lambda_base": 10.0, "lambda_gamma": 0.1} if head == "l-softmax" else {}
    cell = tiny_cell(head, **extra)
    _, undisturbed = train_cell(cell, tmp_path / "a")
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "b", should_stop=lambda: next(steps) == stop_at)
    _, resumed = train_cell(cell, tmp_path / "b")
    assert files_of(resumed) == files_of(undisturbed)


def test_a_history_longer_than_the_checkpoint_holds_no_line_twice(tmp_path):
    cell = tiny_cell()
    _, undisturbed = train_cell(cell, tmp_path / "a")
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "b", should_stop=lambda: next(steps) == 8)
    # As after a kill between a record and the next checkpoint.
    folder = type(undisturbed)(tmp_path / "b", cell)
    folder.write_history(undisturbed.read_history()[:3])
    train_cell(cell, tmp_path / "b")
    assert files_of(folder) == files_of(undisturbed)


def test_annealing_goes_on_where_it_stopped(tmp_path):
    cell = tiny_cell("l-softmax", m=2, lambda_base=100.0, lambda_gamma=0.5, lambda_power=1.0)
    _, folder = train_cell(cell, tmp_path)
    recorded = [row["lambda"] for row in folder.read_history()]
    assert recorded == pytest.approx([100 / (1 + 0.5 * t) for t in (6, 12, 18, 24)], rel=1e-6)


def test_the_learning_rate_falls_after_its_milestones():
    schedule = Schedule(iterations=10, batch_size=1, milestones=(4, 8), evaluations=1)
    rates = [learning_rate(i, Optimiser(learning_rate=1.0), schedule) for i in range(1, 11)]
    assert rates == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 2)


def test_the_history_has_what_was_asked_for(tmp_path):
    result, folder = train_cell(tiny_cell(), tmp_path)
    rows = folder.read_history()
    assert [row["iteration"] for row in rows] == [6, 12, 18, 24]
    assert result["test_error"] == rows[-1]["test_error"]
    assert result["iteration"] == 24
    assert folder.status().state == State.DONE


def test_retrieval_is_recorded_along_the_way_where_it_is_asked_for(tmp_path):
    cell = tiny_cell(data=Component(name="digits", parameters={"left_out": [7, 8, 9]}))
    asking = cell.model_copy(update={"verification": Verification(record_retrieval=True)})
    assert cell.key != asking.key
    result, folder = train_cell(asking, tmp_path)
    rows = folder.read_history()
    final = result["verification"][0]["retrieval"]
    assert final["queries"] == final["images"] > 500
    for name in RETRIEVAL:
        assert rows[-1][name] == result[name] == final[name]
        assert rows[0][name] != rows[-1][name]


def test_recorded_errors_are_those_of_the_model_with_the_margin_off(tmp_path):
    cell = tiny_cell("am-softmax", m=0.4, s=8.0)
    result, folder = train_cell(cell, tmp_path)
    experiment = build_experiment(cell, CPU)
    state = torch.load(folder.checkpoint, weights_only=True)
    experiment.backbone.load_state_dict(state["backbone"])
    experiment.backbone.eval()
    mean = experiment.data.train_images.double().mean(dim=0) / 255
    inputs = (experiment.test_images.double() / 255 - mean).float()
    with torch.no_grad():
        features = experiment.backbone(inputs).double()
    weight = state["head"]["weight"].double()
    cosine = (features / features.norm(dim=1, keepdim=True)) @ (
        weight / weight.norm(dim=1, keepdim=True)
    ).T
    wrong = (cosine.argmax(dim=1) != experiment.test_labels).double().mean().item()
    assert result["test_error"] == pytest.approx(wrong, abs=1.5 / len(features))


def test_divergence_is_an_outcome_and_no_exception(tmp_path):
    exploding = tiny_cell().model_copy(update={"optimiser": Optimiser(learning_rate=1e20)})
    result, folder = train_cell(exploding, tmp_path)
    assert result["outcome"] == "diverged"
    assert "not finite" in result["reason"]
    assert result["iteration"] == 6
    assert folder.status().state == State.DIVERGED


def test_a_dead_start_is_reported_and_costs_half_the_run(tmp_path):
    dead = tiny_cell().model_copy(update={"optimiser": Optimiser(learning_rate=1e-12)})
    result, _ = train_cell(dead, tmp_path)
    assert result["outcome"] == "diverged"
    assert "stuck at chance" in result["reason"]
    assert result["iteration"] == 12


def test_bf16_on_the_cpu_is_refused(tmp_path):
    cell = tiny_cell().model_copy(update={"precision": "bf16"})
    with pytest.raises(UserError, match="precision = 'bf16' needs a CUDA device"):
        train_cell(cell, tmp_path)


def weight_bytes(checkpoint):
    """The first bytes of a weight of the backbone, as they lie in the file."""
    weights = torch.load(checkpoint, weights_only=True)["backbone"]
    return next(iter(weights.values())).detach().numpy().tobytes()[:16]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "other cell"])
def test_a_damaged_checkpoint_is_named_and_nothing_else_is_lost(damage, tmp_path):
    cell = tiny_cell()
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path, should_stop=lambda: next(steps) == 8)
    folder = next(tmp_path.iterdir())
    checkpoint = folder / "checkpoint.pt"
    content = checkpoint.read_bytes()
    if damage == "truncated":
        checkpoint.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        # Inside of a weight: bytes between the entries of the archive mean nothing.
        middle = content.index(weight_bytes(checkpoint))
        changed = bytes([content[middle] ^ 255])
        checkpoint.write_bytes(content[:middle] + changed + content[middle + 1 :])
    elif damage == "text":
        checkpoint.write_text("no checkpoint")
    else:
        buffer = io.BytesIO()
        torch.save({"key": "0" * 12}, buffer)
        checkpoint.write_bytes(buffer.getvalue())
    history = (folder / "history.jsonl").read_bytes()
    with pytest.raises(DamagedFile, match=r"checkpoint\.pt is damaged"):
        train_cell(cell, tmp_path)
    assert (folder / "history.jsonl").read_bytes() == history
    assert not (folder / "result.json").exists()


def test_a_malicious_checkpoint_runs_nothing(tmp_path):
    import pickle
    import zipfile

    marker = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    cell = tiny_cell()
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "runs", should_stop=lambda: next(steps) == 8)
    folder = next((tmp_path / "runs").iterdir())
    with zipfile.ZipFile(folder / "checkpoint.pt", "w") as archive:
        archive.writestr("checkpoint/data.pkl", pickle.dumps(Malicious()))
        archive.writestr("checkpoint/version", "3")
    with pytest.raises(DamagedFile):
        train_cell(cell, tmp_path / "runs")
    assert not marker.exists()


def test_class_cosine_is_the_mean_over_pairs():
    random = torch.Generator().manual_seed(0)
    features = torch.randn(40, 5, generator=random)
    features[3] = 0
    labels = torch.arange(40) % 3
    matrix = class_cosine(features, labels, 4)
    for a, b in itertools.product(range(3), repeat=2):
        cosines = [
            torch.nn.functional.cosine_similarity(
                features[i].double(), features[j].double(), dim=0, eps=1e-30
            ).item()
            for i, j in itertools.product(range(40), repeat=2)
            if labels[i] == a and labels[j] == b and i != j
        ]
        assert matrix[a, b] == pytest.approx(np.mean(cosines), abs=1e-12)
    assert np.isnan(matrix[3]).all()


def test_the_mean_image_is_that_of_the_training_set():
    experiment = build_experiment(tiny_cell(), CPU)
    expected = experiment.data.train_images.double().mean(dim=0) / 255
    assert torch.allclose(experiment.mean_image.double(), expected, atol=1e-7)


def test_float32_on_cuda_is_float32_and_cublas_repeats_itself(monkeypatch):
    # Set first, so that it is as before after the test.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        for switch in switches:
            switch.allow_tf32 = True
        # These are settings only: they need no GPU.
        training.make_deterministic(torch.device("cuda"))
        assert [switch.allow_tf32 for switch in switches] == [False, False]
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(deterministic)
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def test_classes_whose_names_are_no_text_are_trained_and_shown(tmp_path, monkeypatch):
    """A folder's name may be any bytes; a result is text."""
    monkeypatch.setenv("MARGINBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("MARGINBENCH_CACHE", str(tmp_path / "cache"))
    for name in (b"caf\xe9", b"tea"):
        folder = tmp_path / "drinks" / os.fsdecode(name)
        folder.mkdir(parents=True)
        for number in range(8):
            Image.new("L", (8, 8), 16 * number).save(folder / f"{number}.png")
    data = Component(name="folder", parameters={"name": "drinks", "test_share": 0.5, "size": 8})
    schedule = Schedule(iterations=4, batch_size=4, evaluations=1)
    _, folder = train_cell(tiny_cell(data=data, schedule=schedule), tmp_path / "runs")
    assert folder.status().state == State.DONE
    assert folder.read_result()["class_names"] == [r"caf\udce9", "tea"]
