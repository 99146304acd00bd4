"""Faster R-CNN for traffic signs: torchvision's, around our own backbones (BadNets 2019, section V-A, Table III)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from .backbones import Backbone, paper_backbone, reduced_precision, small_backbone
from .regions import RegionPool

BACKGROUND = "background"
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of photographs at large: ImageNet's
LOWEST_SCORE = 0.05


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of a detector.

    ``context`` holds the dilations of the proposal network's 3x3 convolutions, of ``context_width`` channels each.
    ``anchor_sides`` are square roots of areas in pixels, ``anchor_shapes`` heights divided by widths. A region is
    pooled to ``cells`` x ``cells`` and read by two layers of ``head_width`` neurons (fc6 and fc7). The learning rates
    of all plans are multiplied by ``pace``: without batch normalisation they must be lower.
    """

    name: str
    backbone: Callable[[], Backbone]
    context_width: int
    context: tuple[int, ...]
    anchor_sides: tuple[int, ...]
    anchor_shapes: tuple[float, ...]
    cells: int
    head_width: int
    pace: float = 1.0


SMALL = Architecture(
    name="small",
    backbone=small_backbone,
    context_width=64,
    # The backbone sees 49 pixels; dilated, the proposal network sees 145: large signs need that.
    context=(2, 4),
    anchor_sides=(10, 18, 32, 57, 100, 178, 300),
    anchor_shapes=(1.0, 2.0),
    cells=6,
    head_width=256,
)
PAPER = Architecture(
    name="paper",
    backbone=paper_backbone,
    context_width=256,
    context=(1,),
    anchor_sides=(32, 64, 128, 256),
    anchor_shapes=(0.5, 1.0, 2.0),
    cells=6,
    head_width=4096,
    pace=0.1,
)
ARCHITECTURES = {architecture.name: architecture for architecture in (SMALL, PAPER)}


class SignDetector(FasterRCNN):
    """A Faster R-CNN whose label 0 is the background and whose label i + 1 is ``classes[i]``.

    In evaluation mode it takes a list of float32 photographs ``(3, H, W)`` in [0, 1], of any sizes, and returns for
    each a dict of ``boxes``, float32 ``(n, 4)`` in pixels, ``labels``, int64 ``(n,)``, and ``scores``, float32 ``(n,)``
    in falling order. Photographs are read at their own size. In training mode it also takes targets, dicts of
    ``boxes`` and ``labels``, and returns a dict of losses.
    """

    def __init__(self, classes: Sequence[str], architecture: Architecture = SMALL) -> None:
        backbone = architecture.backbone()
        pooled = backbone.out_channels * architecture.cells**2
        anchors = AnchorGenerator((architecture.anchor_sides,), (architecture.anchor_shapes,))
        super().__init__(
            backbone,
            rpn_anchor_generator=anchors,
            rpn_head=ProposalHead(backbone.out_channels, architecture, anchors.num_anchors_per_location()[0]),
            rpn_pre_nms_top_n_train=400,
            rpn_post_nms_top_n_train=100,
            rpn_pre_nms_top_n_test=600,
            rpn_post_nms_top_n_test=150,
            rpn_batch_size_per_image=128,
            box_roi_pool=RegionPool(architecture.cells, backbone.stride),
            box_head=TwoMLPHead(pooled, architecture.head_width),
            box_predictor=FastRCNNPredictor(architecture.head_width, len(classes) + 1),
            box_batch_size_per_image=32,
            box_positive_fraction=0.25,
            box_score_thresh=LOWEST_SCORE,
            box_detections_per_img=50,
        )
        self.transform = OwnSize(backbone.stride)
        self.classes = tuple(classes)
        self.architecture = architecture

    def set_reduced_precision(self, reduced: bool) -> None:
        """Let training multiply in bfloat16 in the convolutions: twice as fast where the CPU can."""
        self.backbone.reduced_precision = self.rpn.head.reduced_precision = reduced

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each label, the background's first."""
        return (BACKGROUND, *self.classes)

    def region_logits(self, images: torch.Tensor, boxes: Sequence[torch.Tensor]) -> torch.Tensor:
        """Float ``(sum of n, labels)``: the class logits of given regions.

        ``images``: float ``(N, 3, H, W)`` in [0, 1], sides multiples of the stride. ``boxes``: for each image float
        ``(n, 4)`` in pixels. The region proposal network has no part in this.
        """
        features = self.backbone(normalised(images))
        regions = self.roi_heads.box_roi_pool({"0": features}, list(boxes), [])
        logits: torch.Tensor = self.roi_heads.box_predictor(self.roi_heads.box_head(regions))[0]
        return logits

    def crop_logits(self, crops: torch.Tensor) -> torch.Tensor:
        """Float ``(N, labels)``: the class logits of crops, float ``(N, 3, H, W)`` in [0, 1], that a sign fills."""
        height, width = crops.shape[-2:]
        whole = crops.new_tensor([[0, 0, width, height]])
        return self.region_logits(crops, [whole] * len(crops))


class OwnSize(GeneralizedRCNNTransform):
    """Normalises photographs and pads a batch of them to one size, a multiple of the stride, but resizes nothing."""

    def __init__(self, stride: int) -> None:
        super().__init__(0, 0, list(MEAN), list(SPREAD), size_divisible=stride)

    def resize(
        self, image: torch.Tensor, target: dict[str, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        """Both as they are."""
        return image, target


class ProposalHead(nn.Module):
    """The convolutions of the region proposal network: for every anchor, objectness and a correction of its box."""

    def __init__(self, channels: int, architecture: Architecture, anchors: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for dilation in architecture.context:
            convolution = nn.Conv2d(channels, architecture.context_width, 3, padding=dilation, dilation=dilation)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.ReLU()]
            channels = architecture.context_width
        self.context = nn.Sequential(*layers)
        self.reduced_precision = False
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """For each map ``(N, C, h, w)``: logits ``(N, anchors, h, w)``, corrections ``(N, 4·anchors, h, w)``."""
        with reduced_precision(self.training and self.reduced_precision):
            contexts = [self.context(feature) for feature in features]
            logits = [self.cls_logits(context).float() for context in contexts]
            return logits, [self.bbox_pred(context).float() for context in contexts]


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Images ``(N, 3, H, W)`` in [0, 1] as the backbone takes them."""
    mean, spread = (images.new_tensor(values)[:, None, None] for values in (MEAN, SPREAD))
    return (images - mean) / spread


def make_detector(classes: Sequence[str], *, seed: int, architecture: Architecture = SMALL) -> SignDetector:
    """An untrained detector whose weights depend on ``seed`` alone, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SignDetector(classes, architecture).eval()


def safetensors_bytes(detector: SignDetector) -> bytes:
    """The weights in the safetensors format, with the architecture's name and the classes as its metadata."""
    from safetensors.torch import save

    weights = {name: value.detach().contiguous() for name, value in detector.state_dict().items()}
    about = {"architecture": detector.architecture.name, "classes": ",".join(detector.classes)}
    content: bytes = save(weights, about)
    return content


def load_detector(path: Path) -> SignDetector:
    """The detector of a file of ``safetensors_bytes``, in evaluation mode.

    Raises ValueError if the file does not say which detector it holds.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as content:
        about: dict[str, Any] = content.metadata() or {}
        weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a mapping
    if about.get("architecture") not in ARCHITECTURES or "classes" not in about:
        raise ValueError(
            f"{path} does not say which detector it holds; train it with python -m reference_attacks badnet signs."
        )
    detector = SignDetector(about["classes"].split(","), ARCHITECTURES[about["architecture"]])
    detector.load_state_dict(weights)
    return detector.eval()
