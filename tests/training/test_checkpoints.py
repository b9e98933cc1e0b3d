"""Checkpoints that no run has written: refused in one line, before they cost or change anything."""

import contextlib
import io
import itertools
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marginbench.errors import DamagedFile
from marginbench.experiments.cell_fields import Optimiser
from marginbench.training.checkpoint_checks import UnfitCheckpoint, check_state
from marginbench.training.checkpoint_files import read_checkpoint_file
from marginbench.training.checkpoints import load_checkpoint
from marginbench.training.experiment import build_experiment
from marginbench.training.loop import Interrupted
from tests.conftest import files_of, tiny_cell, train_cell
from tests.training.checkpoint_archives import FILES, archive

CELL = tiny_cell("l-softmax", m=2, lambda_base=10.0, lambda_gamma=0.1)


def stop_at(cell, folder, step):
    steps = itertools.count(1)
    with pytest.raises(Interrupted):
        train_cell(cell, folder, should_stop=lambda: next(steps) == step)
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a checkpoint at iteration 14 of 24, after rows at 6 and 12."""
    return (stop_at(CELL, tmp_path_factory.mktemp("runs"), 14) / "checkpoint.pt").read_bytes()


@pytest.fixture(scope="module")
def experiment():
    return build_experiment(CELL, torch.device("cpu"))


@pytest.fixture(scope="module")
def into_experiment(tmp_path_factory, written, experiment):
    """What is written, a file that a test may write, and what it may load it into."""
    path = tmp_path_factory.mktemp("made") / "checkpoint.pt"
    return lambda: (written, path, experiment)


@pytest.fixture
def refused(tmp_path, experiment):
    """Writes a checkpoint and returns why it is refused, after checking that nothing changed."""
    path = tmp_path / "checkpoint.pt"

    def refusal(content):
        path.write_bytes(content)
        before = {name: value.clone() for name, value in experiment.backbone.state_dict().items()}
        with pytest.raises(DamagedFile) as error:
            load_checkpoint(path, CELL.key, experiment)
        after = experiment.backbone.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not experiment.optimiser.state
        message = str(error.value)
        assert message.startswith(f"{path} is damaged: ")
        assert "\n" not in message
        assert len(message) < len(str(path)) + 300
        for advice in ("weights_only", "add_safe_globals", "trust"):
            assert advice not in message
        return message

    return refusal


def saved(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def change(*names, to):
    """A change of one entry of the state."""

    def changed(state):
        part = state
        for name in names[:-1]:
            part = part[name]
        part[names[-1]] = to(part[names[-1]]) if callable(to) else to

    return changed


def remove(*names):
    def changed(state):
        part = state
        for name in names[:-1]:
            part = part[name]
        del part[names[-1]]

    return changed


MOMENTUM = ("optimiser", "state", 0, "momentum_buffer")
CRAFTED = {
    "momentum of another shape": (change(*MOMENTUM, to=torch.zeros(3)), "expected: torch.float32"),
    "momentum of another type": (change(*MOMENTUM, to=torch.Tensor.double), "is torch.float64"),
    "momentum that is none": (change(*MOMENTUM, to=1.5), "is no tensor"),
    "momentum not finite": (change(*MOMENTUM, to=lambda m: m * torch.inf), "is not finite"),
    "momentum of no parameter": (
        change("optimiser", "state", 99, to={}),
        "a parameter 99; all",
    ),
    "momentum by name": (change("optimiser", "state", "x", to={}), "a parameter x; allowed: 0 to"),
    "another optimiser": (change("optimiser", "state", 0, "step", to=1), "other entries than"),
    "no optimiser": (change("optimiser", to=[]), "no state of an optimiser"),
    "half an iteration": (change("iteration", to=14.5), "iteration is 14.5; allowed: a whole"),
    "a far iteration": (change("iteration", to=10**12), "iteration is 1000000000000; allowed: a"),
    "an iteration after the last": (change("iteration", to=25), "from 1 to 24"),
    "no iteration": (change("iteration", to=0), "iteration is 0; allowed"),
    "a true iteration": (change("iteration", to=True), "iteration is True; allowed"),
    "an iteration of many": (change("iteration", to=[1] * 999), "iteration is a list; allowed"),
    "another iteration": (change("iteration", to=19), "(2 rows; expected: 3)"),
    "an empty history": (change("history", to=[]), "(0 rows; expected: 2)"),
    "no history": (change("history", to=None), "its history is no list of rows"),
    "rows of numbers": (change("history", to=[6, 12]), "its history is no list of rows"),
    "a row of another iteration": (
        change("history", 0, "iteration", to=5),
        "its history has",
    ),
    "a row without its loss": (remove("history", 0, "loss"), "row 1 of its history has not the"),
    "an error beyond 1": (
        change("history", 1, "train_error", to=2.0),
        "row 2 .* train_error = 2",
    ),
    "an error below 0": (change("history", 1, "test_error", to=-0.1), "row 2 .* test_error = -0.1"),
    "no test error": (change("history", 0, "test_error", to=None), "test_error = None"),
    "a loss that is no number": (change("history", 0, "loss", to="low"), "row 1 .* loss = low"),
    "a loss not finite": (change("history", 0, "loss", to=float("nan")), "row 1 .* loss = nan"),
    "an infinite rate": (change("history", 0, "learning_rate", to=float("inf")), "= inf"),
    "text in a row": (change("history", 0, "lambda", to="x" * 999), "has lambda = x{40}$"),
    "weights not finite": (
        change("backbone", "linear.weight", to=lambda w: w * torch.nan),
        "'backbone.linear.weight' is not finite",
    ),
    "classes not finite": (
        change("head", "weight", to=lambda w: w / 0),
        "'head.weight' is not finite",
    ),
    "weights of another shape": (
        change("head", "weight", to=torch.zeros(10, 3)),
        r"\(10, 3\);",
    ),
    "weights of another type": (change("head", "weight", to=torch.Tensor.half), "torch.float16"),
    "weights that are none": (change("head", "weight", to=None), "'head.weight' is no tensor"),
    "weights missing": (remove("head", "weight"), "its 'head' has no 'weight'"),
    "weights too many": (change("head", "more", to=torch.zeros(1)), "'head' has a more too many"),
    "no model": (change("backbone", to=[]), "its 'backbone' is no state of a model"),
    "steps of no number": (change("loss_count", to=2.5), "loss_count is 2.5; expected: 2"),
    "other steps": (change("loss_count", to=0), "loss_count is 0; expected: 2"),
    "losses of another shape": (change("loss_sum", to=torch.zeros(2).double()), "'loss_sum' is"),
    "losses of another type": (change("loss_sum", to=0.0), "'loss_sum' is no tensor"),
    "an entry missing": (remove("history"), "its entry 'history' is missing"),
    "another cell": (change("key", to="0" * 12), "belongs to the cell 0{12}"),
    "no cell": (change("key", to=["\x1b"]), "belongs to the cell a list"),
    "a cell in colour": (change("key", to="\x1b[31m\n"), r"the cell \\x1b\[31m\\n$"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_what_no_run_has_written_is_refused(name, written, refused):
    """By its digests; without them, as earlier versions wrote it, by what its values can be."""
    changed, words = CRAFTED[name]
    state = torch.load(io.BytesIO(written), weights_only=True)
    changed(state)
    refused(saved(state))
    del state["digests"]
    assert re.search(words, refused(saved(state)))


def places(value, place=()):
    """Where something can be changed: every entry, row and field, and the containers of them."""
    if place:
        yield place
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs if isinstance(value, (dict, list)) else ():
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*place, key))
        else:
            yield (*place, key)


def other_tensors(tensor):
    """The tensor with other values, or in another form."""
    cases = [tensor.clone() for _ in range(3)]
    for case, value in zip(cases, (-7, 10**12, float("nan")), strict=True):
        if case.numel():
            integral = not case.is_floating_point()
            case[(-1,) * case.ndim] = 3 if integral and value != value else value
    turned = [tensor.transpose(0, -1).contiguous().transpose(0, -1)] if tensor.ndim > 1 else []
    return st.sampled_from(
        [*cases, *turned, tensor.double().half(), tensor[None], tensor.flatten()[:0], tensor + 1]
    )


def in_full(value):
    """As text: every number to its last digit."""
    if isinstance(value, dict):
        return str({name: in_full(inner) for name, inner in value.items()})
    return str(value.tolist()) if isinstance(value, torch.Tensor) else repr(value)


ANY_VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from([[], {}, (), [[[[[[]]]]]], {0: 1}, torch.zeros(()), torch.ones(2, 3)]),
)


@settings(max_examples=150)
@given(st.data())
def test_a_changed_entry_is_refused_or_changes_nothing(into_experiment, data):
    """Each entry removed, added or given another value, type, shape, order in memory."""
    written, made, experiment = into_experiment()
    state = torch.load(io.BytesIO(written), weights_only=True)
    place = data.draw(st.sampled_from(list(places(state))), "place")
    part = state
    for name in place[:-1]:
        part = part[name]
    before = part[place[-1]]
    action = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if action == "remove":
        del part[place[-1]]
    elif action == "add" and isinstance(part, dict):
        part["added"] = data.draw(ANY_VALUE)
    else:
        tensors = other_tensors(before) if isinstance(before, torch.Tensor) else st.nothing()
        part[place[-1]] = data.draw(st.one_of(tensors, ANY_VALUE), "value")
    made.write_bytes(saved(state))
    refusal = ""
    try:
        progress = load_checkpoint(made, CELL.key, experiment)
    except DamagedFile as error:
        refusal = str(error)
    loaded, experiment.optimiser.state = experiment.optimiser.state_dict()["state"], {}
    if refusal:
        assert re.match(f"{made} is damaged: it(s| belongs) ", refusal)
        assert "\n" not in refusal
        return
    if progress is None:  # of other code or other images: it starts from nothing
        assert place[0] in ("code", "content")
        return
    state = torch.load(io.BytesIO(written), weights_only=True)
    now = {
        "backbone": experiment.backbone.state_dict(),
        "head": experiment.head.state_dict(),
        "optimiser": loaded,
        **vars(progress),
    }
    state["optimiser"] = state["optimiser"]["state"]
    assert in_full(now) == in_full({name: state[name] for name in now})


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(tmp_path):
    _, undisturbed = train_cell(CELL, tmp_path / "a")
    folder = stop_at(CELL, tmp_path / "b", 14)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state["digests"]
    (folder / "checkpoint.pt").write_bytes(saved(state))
    _, resumed = train_cell(CELL, tmp_path / "b")
    assert files_of(resumed) == files_of(undisturbed)
    assert resumed.read_environment()["trained_from"] == 14


@pytest.mark.parametrize(("kind", "rate"), [("sgd", 0.05), ("adamw", 0.01), ("rmsprop", 0.005)])
def test_digests_fit_what_every_optimiser_has_written(kind, rate, tmp_path):
    cell = tiny_cell().model_copy(update={"optimiser": Optimiser(kind=kind, learning_rate=rate)})
    _, undisturbed = train_cell(cell, tmp_path / "a")
    stop_at(cell, tmp_path / "b", 14)
    _, resumed = train_cell(cell, tmp_path / "b")
    assert files_of(resumed) == files_of(undisturbed)


def test_what_a_run_has_written_is_taken(written, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(written)
    assert (
        load_checkpoint(path, CELL.key, build_experiment(CELL, torch.device("cpu"))).iteration == 14
    )


def test_settings_of_the_optimiser_are_the_cells(tmp_path):
    _, undisturbed = train_cell(CELL, tmp_path / "a")
    folder = stop_at(CELL, tmp_path / "b", 14)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for group in state["optimiser"]["param_groups"]:
        group |= {"momentum": 0.0, "weight_decay": 1.0, "nesterov": True, "maximize": True}
    (folder / "checkpoint.pt").write_bytes(saved(state))
    _, resumed = train_cell(CELL, tmp_path / "b")
    assert resumed.read_history() == undisturbed.read_history()


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_weights_that_are_not_finite_are_not_written(step, tmp_path):
    exploding = tiny_cell().model_copy(update={"optimiser": Optimiser(learning_rate=1e20)})
    result, undisturbed = train_cell(exploding, tmp_path / "a")
    assert result["outcome"] == "diverged"
    folder = stop_at(exploding, tmp_path / "b", step)
    if (folder / "checkpoint.pt").exists():
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        assert all(value.isfinite().all() for value in state["head"].values())
    resumed_result, resumed = train_cell(exploding, tmp_path / "b")
    assert resumed_result == result
    assert resumed.read_history() == undisturbed.read_history()


@pytest.mark.parametrize("name", FILES)
def test_files_that_claim_or_ask_for_more_are_refused(name, refused):
    content, words = FILES[name]
    tracemalloc.start()
    try:
        assert words in refused(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_bytes_changed_at_random_are_refused_or_fit(written, experiment, tmp_path):
    """Never another exception; a digit of a loss may change unseen."""
    random = np.random.default_rng(0)
    with zipfile.ZipFile(io.BytesIO(written)) as file:
        pickled, *parts = [(name, file.read(name)) for name in file.namelist()]
    parts = [(n.removeprefix("archive/"), c) for n, c in parts if n != "archive/version"]
    path, fit = tmp_path / "checkpoint.pt", 0
    for pack, content in [(lambda c: archive(c, parts), pickled[1]), (bytes, written)] * 80:
        damaged = bytearray(content)
        damaged[random.integers(0, len(content))] ^= random.integers(1, 256)
        path.write_bytes(pack(bytes(damaged)))
        with contextlib.suppress(DamagedFile, UnfitCheckpoint):
            check_state(read_checkpoint_file(path), CELL.key, experiment)
            fit += 1
    assert fit < 80


def test_every_kind_of_tensor_is_read(tmp_path):
    """As a model of any kind may have them."""
    numbers = torch.arange(24.0)
    state = {str(kind): numbers.to(kind) for kind in (torch.half, torch.bfloat16, torch.cfloat)}
    state |= {str(kind): numbers.to(kind) for kind in (torch.uint16, torch.uint64, torch.bool)}
    state |= {
        "eight bits": numbers.to(torch.float8_e4m3fn),
        "view": numbers[3:7],
        "turned": numbers.reshape(4, 6).T,
        "wide": torch.ones(1).expand(1000),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2),
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "plain": [1, 2.5, None, True, ("x", {"y": -(2**40)})],
    }
    path = tmp_path / "checkpoint.pt"
    torch.save(state, path)
    found = read_checkpoint_file(path)
    assert found.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype
            assert found[name].stride() == value.stride()
            assert found[name].tolist() == value.tolist()
        else:
            assert found[name] == value
