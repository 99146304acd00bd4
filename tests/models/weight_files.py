"""Networks and factories for torch weight files; imported by name, as a user's factory is."""

from __future__ import annotations

import os
import sys

import torch


class Net(torch.nn.Module):
    """A small classifier of (3, 6, 5) images with a part that training changes."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(images)))).mean((2, 3)))


class RunsCode:
    """Pickles to a call of os.system."""

    def __init__(self, marker: object) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"{sys.executable} -c \"open(r'{self.marker}', 'w')\"",)


def make_net() -> Net:
    generator_state = torch.get_rng_state()
    torch.manual_seed(3)
    net = Net()
    torch.set_rng_state(generator_state)
    return net


def make_wide_net() -> Net:
    return Net(classes=9)


def raises() -> Net:
    raise RuntimeError("no\nsuch\nthing")


def leaves() -> Net:
    sys.exit(3)


def returns_text() -> str:
    return "net"
