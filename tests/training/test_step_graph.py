"""A step that is replayed as a CUDA graph would be is the step computed each time, to the bit."""

import threading
import warnings

import pytest
import torch

from marginbench.experiments.cell_fields import Optimiser, Schedule, Training
from marginbench.experiments.grids import component
from marginbench.plugins.loading import load_plugin_file
from marginbench.runs.environment import LIMIT_VARIABLE
from marginbench.training.loop import Interrupted
from marginbench.training.step import TrainingStep
from marginbench.training.streaming import BatchStream
from tests.conftest import files_of, train_cell
from tests.training.step_cells import STEPS, begun, head_cells, other_cells, step_cell
from tests.training.stub_cuda import StubCuda, StubStream, as_on_a_device

PLUGIN = """
import torch
from torch import nn

from marginbench import Regulariser, register_regulariser
from marginbench.backbones import Backbone, register_backbone
from marginbench.heads import Head, classifier_weight, register_head


class Dropping(Backbone):
    def __init__(self, pixels):
        super().__init__()
        self.out_features = 4
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 4), nn.Dropout(0.3))

    def forward(self, images):
        return self.layers(images)


class Fading(Dropping):
    share = 1.0

    def forward(self, images):
        Fading.share *= 0.9
        return self.layers(images) * Fading.share


@register_backbone("dropping-replayed")
def dropping(image_shape):
    return Dropping(image_shape[0] * image_shape[1] * image_shape[2])


@register_backbone("fading")
def fading(image_shape):
    return Fading(image_shape[0] * image_shape[1] * image_shape[2])


class Base(Head):
    def __init__(self, in_features, num_classes):
        super().__init__(in_features, num_classes)
        self.weight = classifier_weight(num_classes, in_features)
        self.register_buffer("mean", torch.zeros(in_features))
        self.count = 0
        self.history = []

    def loss(self, features, labels):
        return nn.functional.cross_entropy(self.changed(features), labels)

    def scores(self, features):
        return features @ self.weight.T


@register_head("counts-in-python")
class Counting(Base):
    def changed(self, features):
        self.count += 1
        return self.scores(features) * (2.0 if self.count > 13 else 1.0)


@register_head("remembers-in-a-list")
class Remembering(Base):
    def changed(self, features):
        self.history.append(len(features))
        return self.scores(features)


@register_head("replaces-its-buffer")
class Replacing(Base):
    def changed(self, features):
        self.mean = 0.9 * self.mean + 0.1 * features.detach().mean(dim=0)
        return self.scores(features - self.mean)


@register_head("reads-the-loss")
class Reading(Base):
    def changed(self, features):
        return self.scores(features) / max(features.detach().norm().item(), 1.0)


@register_head("chooses-by-a-mask")
class Choosing(Base):
    def changed(self, features):
        scores = self.scores(features)
        scores[scores > 5] *= 0.5
        return scores + scores[scores > 0].sum() * 0


@register_head("another-number-each-step")
class Fresh(Base):
    def changed(self, features):
        numbers[0] += 0.1
        return self.scores(features) * torch.tensor(numbers[0])


numbers = [1.0]


@register_head("breaks-in-capture")
class Breaking(Base):
    def changed(self, features):
        if BREAK_NOW:
            features.sum().item()
        return self.scores(features)


BREAK_NOW = []


@register_regulariser("waits-replayed")
class Waiting(Regulariser):
    def penalty(self, filters, layer):
        return filters.square().sum() / max(filters.detach().norm().item(), 1.0)


@register_regulariser("counts-replayed")
class CountingRegulariser(Regulariser):
    steps = 0

    def penalty(self, filters, layer):
        CountingRegulariser.steps += 1
        return filters.square().sum() / CountingRegulariser.steps
"""


@pytest.fixture(scope="session")
def plugin(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugin") / "replayed_parts.py"
    file.write_text(PLUGIN)
    return load_plugin_file(file)


def after_steps(cell):
    """(step, all that training changes) after :data:`STEPS` steps."""
    experiment, progress = begun(cell)
    step = TrainingStep(experiment, progress)
    while progress.iteration < STEPS:
        step()
    state = {f"backbone {k}": v for k, v in experiment.backbone.state_dict().items()}
    state |= {f"head {k}": v for k, v in experiment.head.state_dict().items()}
    for number, entries in experiment.optimiser.state_dict()["state"].items():
        state |= {f"optimiser {number} {k}": v for k, v in entries.items() if v is not None}
    return step, state | {"loss": progress.loss_sum}


@pytest.mark.parametrize("cells", [head_cells, other_cells])
def test_every_kind_of_cell_replays_to_the_bit(cells, monkeypatch):
    as_on_a_device(monkeypatch)
    computed = {name: after_steps(cell)[1] for name, cell in cells()}
    StubCuda(monkeypatch)
    for name, cell in cells():
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*only slower")
            step, state = after_steps(cell)
        assert step.graph.is_captured, name
        differing = [key for key in state if not torch.equal(state[key], computed[name][key])]
        assert not differing, name


SCHEDULE = Schedule(
    iterations=36,
    batch_size=20,
    evaluations=9,
    plateau_patience=1,
    plateau_threshold=0.2,
    factor=0.5,
    warm_up=3,
)
OPT = Training(kind="opt", orthogonal_map="cayley", block=4, block_steps=5)
WHOLE_RUNS = {
    "λ": {"head": component("l-softmax", lambda_base=100.0, lambda_gamma=0.1)},
    "dropout": {"backbone": component("dropping-replayed")},
    "rotations redrawn": {"training": OPT},
    "projections redrawn": {"regulariser": component("comhe", renew_every=4)},
    "running mean": {"head": component("adaface")},
}


@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("what", WHOLE_RUNS)
def test_a_whole_run_replays_to_the_bit(what, streamed, plugin, monkeypatch, tmp_path):
    fields = {"head": "softmax", "optimiser": Optimiser(learning_rate=0.1)}
    fields["backbone"] = component("small", widths=[8], features=8)
    cell = step_cell(**{**fields, **WHOLE_RUNS[what]}, schedule=SCHEDULE)
    _, computed = train_cell(cell, tmp_path / "computed")
    if streamed:
        monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    StubCuda(monkeypatch)
    asked = iter([*[False] * 20, True, *[False] * 99])
    with pytest.raises(Interrupted):
        train_cell(cell, tmp_path / "replayed", should_stop=lambda: next(asked))
    _, replayed = train_cell(cell, tmp_path / "replayed", checkpoint_seconds=0.0)
    assert files_of(replayed) == files_of(computed)


REFUSED = {
    "counts-in-python": "head 'counts-in-python': count changes in Python",
    "remembers-in-a-list": "head 'remembers-in-a-list': history changes in Python",
    "replaces-its-buffer": "head 'replaces-its-buffer' changes in Python .*mul",
    "reads-the-loss": "head 'reads-the-loss' waits for the device .*_local_scalar_dense",
    "chooses-by-a-mask": "head 'chooses-by-a-mask' waits for the device .*index",
    "another-number-each-step": "head 'another-number-each-step' changes in Python .*lift_fresh",
}
OTHER_REFUSED = {
    "fading": {"backbone": component("fading")},
    "waits-replayed": {"regulariser": component("waits-replayed")},
    "counts-replayed": {"regulariser": component("counts-replayed")},
    "matrix_exp": {"training": Training(kind="opt", orthogonal_map="matrix_exp")},
}


@pytest.mark.parametrize("name", [*REFUSED, *OTHER_REFUSED])
def test_what_a_graph_would_freeze_or_wait_for_is_named_and_trained_without(
    name, plugin, monkeypatch
):
    fields = OTHER_REFUSED.get(name, {"head": component(name)})
    cell = step_cell(**{"head": "softmax", **fields})
    _, computed = fresh_run(cell, plugin)
    StubCuda(monkeypatch)
    with pytest.warns(UserWarning, match=REFUSED.get(name, name)) as found:
        step, state = fresh_run(cell, plugin)
    assert len([w for w in found if "only slower" in str(w.message)]) == 1
    assert not step.graph.is_captured
    assert all(torch.equal(state[key], computed[key]) for key in state)


def fresh_run(cell, plugin):
    plugin.Fading.share = plugin.numbers[0] = 1.0
    plugin.CountingRegulariser.steps = 0
    return after_steps(cell)


def test_nothing_is_read_while_a_graph_is_captured(monkeypatch):
    """With a reader that is slower than the steps: at capture it has come to rest."""
    monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    reading = threading.Event()
    fetch = BatchStream._fetch

    def slow(stream, slot, iteration):
        reading.set()
        threading.Event().wait(0.02)
        found = fetch(stream, slot, iteration)
        reading.clear()
        return found

    monkeypatch.setattr(BatchStream, "_fetch", slow)
    seen = []
    cuda = StubCuda(monkeypatch, at_capture=lambda: seen.append(reading.is_set()))
    step, _ = after_steps(step_cell())
    assert step.graph.is_captured
    assert seen == [False]
    assert cuda.modes == ["thread_local"]


def test_warm_up_and_capture_share_one_stream(monkeypatch):
    StubCuda(monkeypatch)
    after_steps(step_cell())
    assert StubStream.made == 1


def test_after_a_capture_that_failed_the_stream_is_the_one_before(plugin, monkeypatch):
    cuda = StubCuda(monkeypatch, at_capture=lambda: plugin.BREAK_NOW.append(True))
    cell = step_cell(component("breaks-in-capture"))
    monkeypatch.setattr(plugin, "BREAK_NOW", [])
    with pytest.warns(UserWarning, match=r"breaks-in-capture' cannot be captured .*not permitted"):
        step, state = after_steps(cell)
    assert cuda.current is cuda.default
    assert not step.graph.is_captured
    monkeypatch.undo()
    _, computed = after_steps(cell)
    assert all(torch.equal(state[key], computed[key]) for key in state)
