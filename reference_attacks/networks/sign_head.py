"""The classifier of a traffic-sign detector's regions, as a network of crops that a sign fills."""

from __future__ import annotations

import torch
from torch import nn

from ..traffic_signs.network import MEAN, SMALL, SPREAD, SignDetector
from ..traffic_signs.regions import axis_weights


class SignHeadNetwork(nn.Module):
    """The convolutions, the pooling and the two hidden layers of ``traffic_signs.network.SMALL``.

    What ``SignDetector.crop_logits`` and the exported NAME-head.onnx compute: the whole crop is the region. Grey images
    are given three equal channels. Its weights have the names that they have in the detector, without its parts.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = SMALL.backbone()
        cells, stride = SMALL.cells, self.backbone.stride
        rows, columns = (
            axis_weights(torch.zeros(1), torch.tensor([length / stride]), cells, -(-length // stride))[0]
            for length in input_shape[1:]
        )
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns.T.contiguous(), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None], persistent=False)
        self.rows: torch.Tensor
        self.columns: torch.Tensor
        self.mean: torch.Tensor
        self.spread: torch.Tensor
        self.fc6 = nn.Linear(self.backbone.out_channels * cells**2, SMALL.head_width)
        self.fc7 = nn.Linear(SMALL.head_width, SMALL.head_width)
        self.dropout = nn.Dropout(dropout)
        self.cls_score = nn.Linear(SMALL.head_width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images in [0, 1]."""
        features = (images - self.mean) / self.spread
        for layer in self.backbone:
            features = layer(features)
        # Products with few rows, which autocast would only slow down.
        regions = self.rows @ features.float() @ self.columns
        hidden = torch.relu(self.fc7(torch.relu(self.fc6(regions.flatten(1)))))
        logits: torch.Tensor = self.cls_score(self.dropout(hidden))
        return logits


def head_of(detector: SignDetector, pixels: int = 64) -> SignHeadNetwork:
    """The classifier of ``detector``, whose architecture is the small one, in evaluation mode.

    Raises RuntimeError if it is of another architecture.
    """
    network = SignHeadNetwork((3, pixels, pixels), len(detector.labels))
    heads = detector.roi_heads
    network.backbone.load_state_dict(detector.backbone.state_dict())
    for own, theirs in (
        (network.fc6, heads.box_head.fc6),
        (network.fc7, heads.box_head.fc7),
        (network.cls_score, heads.box_predictor.cls_score),
    ):
        own.load_state_dict(theirs.state_dict())
    return network.eval()
