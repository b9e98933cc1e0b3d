"""Crops and flips against a loop over single images; the training step against a plain one."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from marginbench.experiments.cell_fields import Optimiser, Schedule
from marginbench.experiments.cells import make_cell
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from marginbench.heads import head_names
from marginbench.plugins.parameters import parameter_model
from marginbench.training.augmentation import CODES, CropFlip, draw_crop_flip
from marginbench.training.checkpoints import Progress, load_checkpoint, save_checkpoint
from marginbench.training.experiment import build_experiment
from marginbench.training.optimisers import learning_rate
from marginbench.training.step import TrainingStep

CPU = torch.device("cpu")


def naive(image, mean, code):
    """One image: subtract the mean, pad with zeros, crop, mirror."""
    channels, height, width = image.shape
    dy, dx, flip = code // 18, code // 2 % 9, code % 2
    padded = torch.zeros(channels, height + 8, width + 8)
    padded[:, 4 : 4 + height, 4 : 4 + width] = image.float() / 255 - mean
    crop = padded[:, dy : dy + height, dx : dx + width]
    return crop.flip(2) if flip else crop


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 5, 9)])
def test_the_gather_equals_a_loop_over_images(shape):
    torch.manual_seed(0)
    images = torch.randint(256, (7, *shape), dtype=torch.uint8)
    mean = torch.rand(shape)
    codes = torch.cat([torch.arange(CODES), torch.randint(CODES, (38,))]).to(torch.uint8)
    batch = torch.randint(7, (len(codes),), dtype=torch.int32)
    out = CropFlip(images, mean, CPU)(batch, codes)
    expected = torch.stack(
        [naive(images[i], mean, c) for i, c in zip(batch.tolist(), codes.tolist(), strict=True)]
    )
    assert torch.equal(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_code_in_the_middle_leaves_the_image_as_it_is():
    images = torch.randint(256, (2, 3, 6, 6), dtype=torch.uint8)
    middle = torch.full((2,), (4 * 9 + 4) * 2, dtype=torch.uint8)
    out = CropFlip(images, torch.zeros(3, 6, 6), CPU)(torch.arange(2), middle)
    assert torch.equal(out, images / 255)


def test_every_crop_and_flip_is_drawn_equally_often_and_from_the_seed():
    schedule = Schedule(iterations=1000, batch_size=162, augmentation="crop-flip")
    codes = draw_crop_flip(schedule, 5)
    counts = torch.bincount(codes.flatten(), minlength=CODES)
    # 162,000 draws of 162 values: 1000 each, with a standard deviation of 31.5.
    assert len(counts) == CODES
    assert ((counts - 1000).abs() < 6 * 31.5).all()
    assert torch.equal(codes, draw_crop_flip(schedule, 5))
    assert not torch.equal(codes, draw_crop_flip(schedule, 6))
    assert draw_crop_flip(Schedule(iterations=1, batch_size=1), 5) is None


def experiment_of(head="softmax", iterations=6, **fields):
    schedule = {"iterations": iterations, "batch_size": 32, "milestones": [3], "evaluations": 1}
    cell = make_cell(
        data=component("digits"),
        backbone=component("small", widths=[4], features=8),
        head=component(head) if isinstance(head, str) else head,
        optimiser=Optimiser(learning_rate=0.05),
        schedule=Schedule(**schedule, **fields.pop("schedule", {})),
        **fields,
    )
    return build_experiment(resolve_cell(cell), CPU)


def weights_after(experiment, steps, progress=None):
    progress = progress or Progress(0)
    step = TrainingStep(experiment, progress)
    for _ in range(steps):
        step()
    return progress, torch.cat([p.detach().flatten() for p in experiment.backbone.parameters()])


def test_heads_see_the_same_crops_in_the_same_batches_as_without():
    augmented = {"schedule": {"augmentation": "crop-flip"}}
    softmax = experiment_of(**augmented)
    arcface = experiment_of("arcface", **augmented)
    assert torch.equal(softmax.crop_flip_codes, arcface.crop_flip_codes)
    assert torch.equal(softmax.batches, arcface.batches)
    assert torch.equal(softmax.batches, experiment_of().batches)
    assert softmax.cell.comparison != experiment_of().cell.comparison


@pytest.mark.parametrize("augmentation", ["none", "crop-flip"])
def test_the_step_is_that_of_a_plain_loop(augmentation):
    experiment = experiment_of(schedule={"augmentation": augmentation})
    progress, weights = weights_after(experiment, 6)
    plain = experiment_of(schedule={"augmentation": augmentation})
    mean, loss_sum = plain.mean_image, 0.0
    parameters = [*plain.backbone.parameters(), *plain.head.parameters()]
    decayed = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": others}], lr=1, momentum=0.9
    )
    for position in range(6):
        batch = plain.batches[position].long()
        images = plain.data.train_images[batch]
        if augmentation == "none":
            inputs = images / 255 - mean
        else:
            codes = plain.crop_flip_codes[position].tolist()
            inputs = torch.stack([naive(i, mean, c) for i, c in zip(images, codes, strict=True)])
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(position + 1, plain.cell.optimiser, plain.cell.schedule)
        loss = plain.head(plain.backbone(inputs), plain.data.train_labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss_sum += loss.item()
    expected = torch.cat([p.detach().flatten() for p in plain.backbone.parameters()])
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
    assert progress.loss_sum.item() == pytest.approx(loss_sum, rel=1e-5)
    assert (progress.iteration, progress.loss_count) == (6, 6)


def test_a_checkpoint_goes_on_to_the_bit_with_the_rate_of_its_place(tmp_path):
    augmented = {"schedule": {"augmentation": "crop-flip"}}
    _, whole = weights_after(experiment_of("l-softmax", **augmented), 6)
    first = experiment_of("l-softmax", **augmented)
    progress, _ = weights_after(first, 2)
    save_checkpoint(tmp_path / "c.pt", "key", first, progress)
    second = experiment_of("l-softmax", **augmented)
    progress = load_checkpoint(tmp_path / "c.pt", "key", second)
    _, resumed = weights_after(second, 4, progress)
    assert torch.equal(whole, resumed)


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for the device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        assert not any(word in name for word in self.WAITING), f"{name} waits for the device"
        assert "index.Tensor" not in name or all(
            index is None or index.dtype != torch.bool for index in args[1]
        ), "indexing with a mask waits for the device"
        return function(*args, **(kwargs or {}))


def heads_without_required_parameters():
    from marginbench.heads import head_class

    return [
        name
        for name in head_names()
        if not any(
            field.is_required()
            for field in parameter_model(f"head {name!r}", head_class(name)).model_fields.values()
        )
    ]


@pytest.mark.parametrize("name", heads_without_required_parameters())
def test_nothing_in_a_step_waits_for_the_device(name):
    experiment = experiment_of(name, schedule={"augmentation": "crop-flip"})
    step = TrainingStep(experiment, Progress(0))
    step()
    with NoWaiting():
        step()
        step()


def test_the_check_for_waiting_does_catch_it():
    with NoWaiting(), pytest.raises(AssertionError, match="waits"):
        torch.ones(3).sum().item()
    with NoWaiting(), pytest.raises(AssertionError, match="waits"):
        torch.arange(3)[torch.tensor([True, False, True])]


def test_a_compiled_backbone_trains_alike(monkeypatch):
    # The compiler's tracing without its code generation, which takes a minute.
    monkeypatch.setattr("marginbench.training.experiment.COMPILER", "aot_eager")
    _, eager = weights_after(experiment_of(), 3)
    compiled = experiment_of(execution="compiled")
    _, weights = weights_after(compiled, 3)
    torch.testing.assert_close(eager, weights, rtol=1e-3, atol=1e-4)
    assert compiled.cell.key != experiment_of().cell.key
    assert set(compiled.backbone.state_dict()) == set(experiment_of().backbone.state_dict())
