"""One optimiser step, in which nothing waits for the device, so that a GPU can replay it whole."""

from __future__ import annotations

import torch

from marginbench.training.checkpoints import Progress
from marginbench.training.experiment import Experiment
from marginbench.training.optimisers import count_rate_cuts, learning_rate
from marginbench.training.seeds import seed_draws
from marginbench.training.step_graph import StepGraph, may_capture


class TrainingStep:
    """Takes an experiment from one iteration to the next.

    What changes from step to step lies on the device: the number of the step, and a table of the
    learning rates. So on CUDA the step is captured once as a graph and then replayed, the same
    kernels in the same order without the cost of launching them (:class:`StepGraph`). A cell that
    cannot be captured is trained without; ``MARGINBENCH_CUDA_GRAPH=0`` switches capture off.

    What backbone and head draw while training, dropout say, comes from a seed of its own for each
    step, derived from the cell's seed, the iteration and the rank: a resumed run draws what an
    undisturbed one does.

    Args:
        experiment: backbone and head in training mode whenever the step is taken.
        progress: where it stands; each step advances it.

    Attributes:
        graph: computes the steps by replaying one; None where that is not possible.
    """

    def __init__(self, experiment: Experiment, progress: Progress) -> None:
        self.experiment = experiment
        self.progress = progress
        cell, device = experiment.cell, experiment.device
        rates = [
            learning_rate(iteration, cell.optimiser, cell.schedule)
            for iteration in range(1, cell.schedule.iterations + 1)
        ]
        self._cut = torch.ones((), dtype=torch.float32, device=device)
        self.follow_plateau()
        self._rates = torch.tensor(rates, dtype=torch.float32, device=device)
        self._rate = torch.zeros((), dtype=torch.float32, device=device)
        self._position = torch.full((1,), progress.iteration, dtype=torch.int64, device=device)
        multiples = {group["multiple"] for group in experiment.optimiser.param_groups} - {1.0}
        self._own_rates = {multiple: torch.zeros_like(self._rate) for multiple in multiples}
        # Set anew here because a checkpoint brings the rate of its own moment.
        for group in experiment.optimiser.param_groups:
            group["lr"] = self._own_rates.get(group["multiple"], self._rate)
        self._part = ""
        self.graph = (
            StepGraph(experiment, self._compute, lambda: self._part)
            if may_capture(experiment)
            else None
        )

    def follow_plateau(self) -> None:
        """Set the learning rate's cuts by the losses recorded; called after each evaluation."""
        schedule = self.experiment.cell.schedule
        losses = [row["loss"] for row in self.progress.history]
        self._cut.fill_(schedule.factor ** count_rate_cuts(losses, schedule))

    def __call__(self) -> None:
        """One step."""
        if self.graph is not None:
            self.graph.prepare()
        if self.experiment.stream is not None:
            self.experiment.stream.load(self.progress.iteration)
        if self.experiment.rotations is not None:
            self.experiment.rotations.begin_step(self.progress.iteration, self.experiment.optimiser)
        if self.experiment.regularisation is not None:
            self.experiment.regularisation.renew(self.progress.iteration)
        # After capture, which draws too. A graph that is replayed reads the seed again.
        self._seed_draws(self.experiment.ranks.rank)
        (self.graph or self._compute)()
        self.progress.loss_count += 1
        self.progress.iteration += 1

    def _compute(self) -> None:
        """The step as the device sees it; every tensor that outlives it is changed in place."""
        experiment, cell = self.experiment, self.experiment.cell
        self._part = "the step"
        experiment.optimiser.zero_grad()
        self._rate.copy_(self._rates.index_select(0, self._position)[0] * self._cut)
        for multiple, rate in self._own_rates.items():
            torch.mul(self._rate, multiple, out=rate)
        batch = experiment.batches.index_select(0, self._position)[0]
        codes = experiment.crop_flip_codes
        if codes is not None:
            codes = codes.index_select(0, self._position)[0]
        own = batch
        if experiment.ranks.size > 1:
            own = experiment.own_batches.index_select(0, self._position)[0]
        self._part = f"backbone {cell.backbone.name!r}"
        if experiment.rotations is not None:
            self._part += f" with training.orthogonal_map = {cell.training.orthogonal_map!r}"
        features = experiment.training_features(own, codes)
        if experiment.ranks.size > 1:
            # Each rank drops out units of its own images; the head is the same on all of them.
            self._seed_draws("all")
        self._part = f"head {cell.head.name!r}"
        loss = experiment.training_loss(features, batch)
        self.progress.loss_sum.add_(loss.detach().double())
        if experiment.regularisation is not None and cell.regulariser is not None:
            self._part = f"regulariser {cell.regulariser.name!r}"
            loss = loss + experiment.regularisation.value()
        self._part = f"the gradient of head {cell.head.name!r} or backbone {cell.backbone.name!r}"
        loss.backward()
        self._part = f"optimiser.kind = {cell.optimiser.kind!r}"
        experiment.optimiser.step()
        self._position.add_(1)

    def _seed_draws(self, rank: int | str) -> None:
        source = f"dropout/{self.progress.iteration}/{rank}"
        seed_draws(self.experiment.cell.seed, source, self.experiment.device)
