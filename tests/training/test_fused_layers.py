"""Fused layers against torch in float64; training with them against training without."""

import copy
import hashlib
import importlib
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from marginbench.backbones.plain import PlainNetwork
from marginbench.experiments.cells import Optimiser, Schedule, make_cell
from marginbench.experiments.grids import component
from marginbench.experiments.resolution import resolve_cell
from marginbench.runs.run_folder import RunFolder
from marginbench.training import fused_layers, native_library
from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import build_experiment
from marginbench.training.fused_layers import FusedSequential, fuse_layers
from marginbench.training.step import TrainingStep
from tests.conftest import built_in_heads

needs_compiler = pytest.mark.skipif(
    native_library.compile_layers()[0] is None, reason=native_library.compile_layers()[1]
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def layer_and_images(count, channels, height, width, filters, kernel):
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(filters),
        nn.PReLU(filters),
    )
    for parameter in layers[1].parameters():
        nn.init.uniform_(parameter, 0.2, 1.0)
    nn.init.uniform_(layers[2].weight, 0.1, 0.6)
    layers.to(memory_format=torch.channels_last)
    images = torch.randn(count, channels, height, width) + 3
    return layers, images.to(memory_format=torch.channels_last)


def exactly(layers, images, weights):
    """Output and gradients by torch in float64, and the running statistics after it."""
    convolution, normalisation, _ = layers
    tensors = [images, *layers.parameters()]
    tensors = [tensor.detach().double().requires_grad_() for tensor in tensors]
    input, weight, scale, bias, slopes = tensors
    running = [normalisation.running_mean.double(), normalisation.running_var.double()]
    convolved = F.conv2d(input, weight, padding=convolution.padding)
    normalised = F.batch_norm(convolved, *running, scale, bias, True, 0.1, normalisation.eps)
    output = F.prelu(normalised, slopes)
    gradients = torch.autograd.grad((output * weights).sum(), tensors)
    return [output, *gradients, *running]


# Channels of no, one and several vectors, more images than fit one group, an image of one pixel.
SHAPES = [(3, 1, 5, 4, 8, 3), (5, 3, 7, 9, 12, 5), (40, 8, 8, 8, 18, 3), (9, 24, 3, 4, 3, 1)]
SHAPES += [(2, 33, 1, 1, 41, 3), (1, 5, 70, 60, 7, 3)]


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fused_layer_is_that_of_float64_within_rounding(shape):
    layers, images = layer_and_images(*shape)
    weights = torch.randn(shape[0], shape[4], *shape[2:4]).double()
    expected = exactly(layers, images, weights)
    images.requires_grad_()

    def outcome(layers):
        output = layers(images)
        inputs = [images, *layers.parameters()]
        gradients = torch.autograd.grad((output * weights.float()).sum(), inputs)
        return [output, *gradients, layers[1].running_mean, layers[1].running_var]

    by_torch = outcome(copy.deepcopy(layers))
    fuse_layers(layers)
    assert isinstance(layers, FusedSequential)
    found = outcome(layers)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for own, other, exact in zip(found, by_torch, expected, strict=True):
        allowed = 2e-6 * exact.abs().max() + 4 * (other - exact).abs().max()
        assert (own - exact).abs().max() <= allowed
    assert layers[1].num_batches_tracked == 1


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fused_layer_evaluates_by_the_running_statistics(shape):
    layers, images = layer_and_images(*shape)
    nn.init.uniform_(layers[1].running_mean, -1, 1)
    nn.init.uniform_(layers[1].running_var, 0.5, 2)
    layers.eval()
    expected = layers(images)
    fuse_layers(nn.Sequential(layers))
    with torch.no_grad():
        output = layers(images)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    # A gradient by the running statistics is torch's own.
    assert torch.equal(layers(images), expected)


@needs_compiler
@pytest.mark.parametrize("special", [None, float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_that_pools_is_the_layer_and_torchs_pooling_to_the_bit(shape, special):
    layers, images = layer_and_images(*shape)
    if special == 0.0:
        images.zero_()
    elif special is not None:
        images[0, 0, -1, -1] = special
    pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
    fused, apart = nn.Sequential(*copy.deepcopy(layers), pool), nn.Sequential(layers, pool)
    fuse_layers(fused)
    fuse_layers(apart)
    assert [len(group) for group in fused._groups] == [4]
    weights = torch.randn(shape[0], shape[4], -(-shape[2] // 2), -(-shape[3] // 2))

    def outcome(model):
        model.train()
        own = images.clone(memory_format=torch.preserve_format).requires_grad_()
        output = model(own)
        gradients = torch.autograd.grad((output * weights).sum(), [own, *model.parameters()])
        with torch.no_grad():
            return [output, *gradients, *model.buffers(), model.eval()(images)]

    for together, separate in zip(outcome(fused), outcome(apart), strict=True):
        assert together.shape == separate.shape
        assert torch.equal(together.isnan(), separate.isnan())
        assert torch.equal(together.nan_to_num(), separate.nan_to_num())


@needs_compiler
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("frozen", [None, 1])
def test_layers_together_are_the_layers_one_by_one_to_the_bit(count, frozen):
    torch.manual_seed(0)
    network = PlainNetwork((3, 9, 6), ((8, 5), (12,)), 3, 4).convolutions
    network.to(memory_format=torch.channels_last)
    images = torch.randn(count, 3, 9, 6)
    together = copy.deepcopy(network)
    fuse_layers(together)
    assert len(together._groups) == 3
    apart = nn.Sequential(*[nn.Sequential(*copy.deepcopy(group)) for group in together._groups])
    fuse_layers(apart)

    def outcome(model, normalisations):
        if frozen is not None:
            normalisations[frozen].eval()
        own = images.clone().requires_grad_()
        output = model(own)
        gradients = torch.autograd.grad(output.square().sum(), [own, *model.parameters()])
        return [output, *gradients, *model.buffers()]

    def normalisations(model):
        return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]

    pairs = [outcome(model, normalisations(model)) for model in (together, apart)]
    for one, other in zip(*pairs, strict=True):
        assert torch.equal(one, other)


@needs_compiler
def test_one_pixel_in_all_is_refused_as_by_torch():
    network = PlainNetwork((1, 2, 2), ((8,), (8,)), 3, 4).convolutions
    fuse_layers(network)
    assert network(torch.randn(2, 1, 2, 2)).shape == (2, 8, 1, 1)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        network(torch.randn(1, 1, 2, 2))


def test_pooling_of_another_form_is_left_to_torch():
    forms = [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True)]
    for pooling in forms:
        layers = nn.Sequential(*layer_and_images(*SHAPES[0])[0], pooling)
        fuse_layers(layers)
        assert [len(group) for group in layers._groups] == [3, 1]


@needs_compiler
def test_layers_of_another_form_are_left_to_torch(monkeypatch):
    torch.manual_seed(0)
    forms = [
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(3, 4, 3, padding=0, bias=False),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(3, 4, 2, padding=1, bias=False),
        nn.Conv2d(3, 4, 3, padding=1, bias=False, padding_mode="reflect"),
        nn.Conv2d(3, 120, 3, padding=1, bias=False),
    ]
    monkeypatch.setattr(fused_layers, "_train", None)
    monkeypatch.setattr(fused_layers, "_evaluate", None)
    for convolution in forms:
        filters = convolution.out_channels
        layers = nn.Sequential(convolution, nn.BatchNorm2d(filters), nn.PReLU(filters))
        images = torch.randn(4, 3, 6, 6)
        expected = layers(images)
        fuse_layers(layers)
        assert torch.equal(layers(images), expected)


def block(channels, filters):
    convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(filters), nn.PReLU(filters)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wrong", ["images", "second", "normalisation"])
def test_channels_that_do_not_fit_are_torchs_error(wrong, training):
    """The compiled code would read beyond the weights."""
    layers = [*block(3, 4), *block(8 if wrong == "second" else 4, 4)]
    if wrong == "normalisation":
        layers[1] = nn.BatchNorm2d(2)
    network = nn.Sequential(*layers).train(training)
    fuse_layers(network)
    images = torch.randn(4, 5 if wrong == "images" else 3, 6, 6)
    with torch.set_grad_enabled(training), pytest.raises(RuntimeError, match=r"channels|elements"):
        network(images)


def test_hooks_of_a_layer_are_called():
    """The former weight_norm computes the weight in one."""
    for number, register in enumerate(("register_forward_hook", "register_forward_pre_hook")):
        layers, called = nn.Sequential(*block(3, 4)), []
        getattr(layers[number], register)(lambda *arguments, called=called: called.append(1))
        fuse_layers(layers)
        layers(torch.randn(4, 3, 6, 6))
        assert called
    weighted = nn.Sequential(*block(3, 4))
    nn.utils.weight_norm(weighted[0])
    fuse_layers(weighted)
    weighted(torch.randn(4, 3, 6, 6)).sum().backward()
    assert weighted[0].weight_g.grad is not None


class Pair(nn.Module):
    def forward(self, images):
        return (images, images) if isinstance(images, torch.Tensor) else images[0] + images[1]


def test_layers_between_which_no_single_tensor_goes_are_computed_one_by_one():
    for layers in ([*block(3, 4), Pair(), Pair(), *block(4, 4)], [Pair(), *block(3, 4)]):
        images = torch.randn(4, 3, 6, 6)
        taken = (images, images) if len(layers) == 4 else images
        network = nn.Sequential(*layers)
        expected = copy.deepcopy(network)(taken)
        fuse_layers(network)
        torch.testing.assert_close(network(taken), expected, rtol=1e-4, atol=1e-5)


def experiment_of(head, execution="fused"):
    cell = make_cell(
        data=component("digits"),
        backbone=component("small", widths=[4, 12], features=8),
        head=component(head),
        # A low rate: at s = 64 a higher one makes much of a rounding within fifty steps.
        optimiser=Optimiser(learning_rate=1e-4),
        schedule=Schedule(iterations=50, batch_size=32, evaluations=1),
        execution=execution,
    )
    return build_experiment(resolve_cell(cell), torch.device("cpu"))


def losses(experiment, steps=50):
    progress = Progress(0)
    step = TrainingStep(experiment, progress)
    found = []
    for _ in range(steps):
        progress.loss_sum.zero_()
        step()
        found.append(float(progress.loss_sum))
    return torch.tensor(found)


@needs_compiler
@pytest.mark.parametrize("head", built_in_heads())
def test_fifty_losses_are_those_of_the_plain_layers(head):
    plain, fused = losses(experiment_of(head, "eager")), losses(experiment_of(head))
    torch.testing.assert_close(fused, plain, rtol=1e-3, atol=1e-6)


@needs_compiler
def test_fused_training_repeats_to_the_bit_and_has_a_key_of_its_own():
    first, second = experiment_of("softmax"), experiment_of("softmax")
    assert torch.equal(losses(first, 5), losses(second, 5))
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(value, second.backbone.state_dict()[name]), name
    plain = experiment_of("softmax", "eager")
    assert plain.cell.key != first.cell.key
    assert plain.backbone.state_dict().keys() == first.backbone.state_dict().keys()


def test_without_a_compiler_the_layers_are_torchs(monkeypatch):
    monkeypatch.setattr(fused_layers, "native_library", lambda: None)
    fused, plain = experiment_of("softmax"), experiment_of("softmax", "eager")
    assert torch.equal(losses(fused, 3), losses(plain, 3))


@pytest.mark.parametrize(
    ("execution", "threads", "said"),
    [("fused", 1, "no C++ compiler (none)"), ("fused", 2, "--threads is 2"), ("eager", 2, "")],
)
def test_run_says_why_the_layers_are_torchs(execution, threads, said, monkeypatch, capsys):
    # By its name: `marginbench.command_line.run` is the verb once the command was read.
    run = importlib.import_module("marginbench.command_line.run")
    monkeypatch.setattr(run, "compile_layers", lambda: (None, "no C++ compiler (none)"))
    cell = experiment_of("softmax", execution).cell
    run._say_if_slower(Console(width=300), [RunFolder(Path(), cell)], threads)
    output = capsys.readouterr().out
    assert said in output
    assert bool(output) == bool(said)


def test_the_code_of_a_result_names_the_source_that_was_compiled():
    digest = hashlib.sha256(native_library.SOURCE.read_bytes()).hexdigest()[:16]
    assert digest == native_library.SOURCE_DIGEST


def test_places_have_the_room_that_the_compiled_code_takes():
    # It writes a whole vector of them where the last channels are.
    assert f"constexpr long LANES = {fused_layers.LANES};" in native_library.SOURCE.read_text()


def test_a_plain_network_is_made_of_layers_that_fuse():
    network = PlainNetwork((1, 8, 8), ((8, 8), (12,)), 3, 4)
    fuse_layers(network)
    groups = [len(group) for group in network.convolutions._groups]
    assert groups == [3, 4, 4]
