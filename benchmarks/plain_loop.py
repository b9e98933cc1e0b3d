"""The loop that a user would write: torchvision's transforms, a DataLoader, a library's loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from marginbench.backbones import build_backbone
from marginbench.heads import build_head

# By our head's name: pytorch-metric-learning's loss of the same paper.
LOSSES: dict[str, Callable[[int, int], nn.Module]] = {
    "softmax": lambda k, d: _LinearSoftmax(k, d),
    "normface": lambda k, d: losses.NormalizedSoftmaxLoss(k, d),
    "l-softmax": lambda k, d: losses.LargeMarginSoftmaxLoss(k, d, margin=4),
    "a-softmax": lambda k, d: losses.SphereFaceLoss(k, d, margin=4),
    "am-softmax": lambda k, d: losses.CosFaceLoss(k, d),
    "arcface": lambda k, d: losses.ArcFaceLoss(k, d),
    "subcenter-arcface": lambda k, d: losses.SubCenterArcFaceLoss(num_classes=k, embedding_size=d),
    "contrastive": lambda k, d: losses.ContrastiveLoss(),
    "triplet": lambda k, d: losses.TripletMarginLoss(),
    "circle": lambda k, d: losses.CircleLoss(),
}


@dataclass(frozen=True)
class Net:
    """A network and how it is fed.

    Attributes:
        name, width: of the backbone.
        shape: (C, H, W) of its images.
        batch: images a step.
        crop_flip: whether images are cropped and mirrored at random.
    """

    name: str
    width: float
    shape: tuple[int, int, int]
    batch: int
    crop_flip: bool


class PlainLoop:
    """Steps of the plain loop, one a call.

    Args:
        net: see :class:`Net`.
        head: by our name. Without a loss in pytorch-metric-learning, our own head stands in, and
            the loop alone differs.
        images: (N, C, H, W), uint8.
        labels: (N,), int64.
        device: where to train; on CUDA under autocast to bf16.
        workers: of the DataLoader.
    """

    def __init__(
        self,
        net: Net,
        head: str,
        images: Tensor,
        labels: Tensor,
        device: torch.device,
        workers: int,
    ) -> None:
        self.device = device
        torch.manual_seed(0)
        self.backbone = build_backbone(net.name, net.shape, {"width": net.width}).to(device)
        features, classes = self.backbone.out_features, int(labels.max()) + 1
        make = LOSSES.get(head, lambda k, d: build_head(head, d, k))
        self.loss = make(classes, features).to(device)
        parameters = [*self.backbone.parameters(), *self.loss.parameters()]
        self.optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)
        self.loader = DataLoader(
            _Pictures(net, images, labels),
            net.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
        )
        self.batches = self._forever()

    def __call__(self) -> None:
        """One step."""
        images, labels = next(self.batches)
        images = images.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            features = self.backbone(images)
        loss = self.loss(features.float(), labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def _forever(self) -> Iterator[Any]:
        while True:
            yield from self.loader


class _Pictures(Dataset):
    """As torchvision's MNIST and CIFAR-10 give them: an image of PIL, transformed."""

    def __init__(self, net: Net, images: Tensor, labels: Tensor) -> None:
        grey = net.shape[0] == 1
        self.mode = "L" if grey else None
        self.images = (images[:, 0] if grey else images.permute(0, 2, 3, 1)).numpy()
        self.labels = labels.tolist()
        crop_flip = [transforms.RandomCrop(net.shape[1], 4), transforms.RandomHorizontalFlip()]
        channels = net.shape[0]
        self.transform = transforms.Compose(
            [
                *(crop_flip if net.crop_flip else []),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * channels, (0.25,) * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class _LinearSoftmax(nn.Module):
    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.linear(features), labels)
