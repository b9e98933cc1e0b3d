"""The fields of a cell that are values: optimiser, schedule, training, verification."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from marginbench.plugins.component import FrozenValue
from marginbench.plugins.parameters import (
    Fraction,
    NonNegative,
    Positive,
    PositiveInteger,
)


class Optimiser(FrozenValue):
    """Stochastic gradient descent with momentum, AdamW or RMSprop.

    Weight decay applies to weights (tensors of two and more dimensions), the head's included; not
    to biases, to normalisation, to PReLU slopes (He et al., ICCV 2015) and to learnt scales.

    Attributes:
        learning_rate: the highest of the run, before the multiples below.
        momentum: of "sgd" and "rmsprop"; β₁ of "adamw".
        weight_decay: added to the gradient; of "adamw", taken off the weights apart from it.
        kind: "sgd", "adamw" (Loshchilov and Hutter, ICLR 2019) or "rmsprop".
        head_rate: the head's learning rate, as a multiple of ``learning_rate``.
        backbone_rate: the backbone's, likewise; without the linear map that a timm model got by
            ``features``, which no published weights have.
        clip_norm: the gradients of all weights together are scaled down to this norm; 0: never.
        squares_decay: of the mean of squared gradients: β₂ of "adamw", α of "rmsprop".
        epsilon: of "adamw" and "rmsprop".
    """

    learning_rate: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 5e-4
    kind: Literal["sgd", "adamw", "rmsprop"] = "sgd"
    head_rate: Positive = 1.0
    backbone_rate: Positive = 1.0
    clip_norm: NonNegative = 0.0
    squares_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Positive = 1e-8


class Schedule(FrozenValue):
    """How long, in what batches, at which learning rate.

    Attributes:
        iterations: optimiser steps.
        batch_size: images a step.
        milestones: iterations after which the learning rate is multiplied by ``factor``.
        factor: see milestones.
        evaluations: how often errors are recorded along the way, the end included.
        sampling: "shuffled" draws every image once an epoch; "balanced" draws every class equally
            often, and the images of a class in turn; "pairs" draws, for every batch,
            ``batch_size / samples_per_class`` classes and as many images of each.
        samples_per_class: for "pairs".
        plateau_patience: after so many evaluations without a better training loss the learning
            rate is multiplied by ``factor``; 0 goes by the milestones instead.
        plateau_cuts: how often at most.
        plateau_threshold: a loss is better if it is lower by this share of the best one.
        augmentation: "crop-flip" pads each training image by 4 pixels, crops it at a random
            position and mirrors it with probability 1/2; the draws are the same for every head.
        course: of the learning rate: "steps" goes by milestones or plateau, "cosine" down to 0
            (Loshchilov and Hutter, ICLR 2017).
        warm_up: so many iterations raise the learning rate linearly to its full height.
    """

    iterations: PositiveInteger
    batch_size: PositiveInteger
    milestones: tuple[PositiveInteger, ...] = ()
    factor: Fraction = 0.1
    evaluations: PositiveInteger = 20
    sampling: Literal["shuffled", "balanced", "pairs"] = "shuffled"
    samples_per_class: PositiveInteger = 4
    plateau_patience: Annotated[int, Field(ge=0)] = 0
    plateau_cuts: PositiveInteger = 2
    plateau_threshold: Fraction = 0.01
    augmentation: Literal["none", "crop-flip"] = "none"
    course: Literal["steps", "cosine"] = "steps"
    warm_up: Annotated[int, Field(ge=0)] = 0

    def evaluation_iterations(self) -> set[int]:
        """The iterations after which errors are recorded."""
        return {
            round(self.iterations * number / self.evaluations)
            for number in range(1, self.evaluations + 1)
        }


class Training(FrozenValue):
    """What of the backbone's weights is trained; a text stands for its kind.

    Attributes:
        kind: "standard", the weights themselves; or "opt": they are drawn and fixed, and a rotation
            of each layer's neurons is trained (Liu et al., Orthogonal Over-Parameterized Training,
            CVPR 2021).
        orthogonal_map: of "opt": what makes an orthogonal matrix of free parameters.
        block: of "opt": of neurons with more entries, so many turn at a time; 0: all.
        block_steps: of "opt": steps from one choice of these entries to the next.
    """

    kind: Literal["standard", "opt"] = "standard"
    orthogonal_map: Literal["cayley", "householder", "matrix_exp"] = "cayley"
    block: Annotated[int, Field(ge=0)] = 512
    block_steps: PositiveInteger = 100

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class Verification(FrozenValue):
    """How features become the scores of verification pairs.

    Attributes:
        mirror: the features of an image are its own ("none"), or the "sum" of its own and its
            mirror image's, or both "concatenated".
        centre: whether the mean of the features is subtracted.
        dimensions: so many principal components of the centred features are kept; 0: no PCA. The
            mean and the components are those of the folds on which the threshold is chosen.
        record_retrieval: whether retrieval on the first set of pairs is also measured at every
            evaluation, and recorded in the history.
        record_retrieval: whether retrieval is also measured along the way, at every evaluation, and
            recorded in the history.
    """

    mirror: Literal["none", "sum", "concatenate"] = "none"
    centre: bool = False
    dimensions: Annotated[int, Field(ge=0)] = 0
    record_retrieval: bool = False
