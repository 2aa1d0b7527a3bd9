"""MobileNet under the names of kuangliu/pytorch-cifar and of the overhaul paper's code.

The latter averages over 7x7; here the average takes the whole of any last map.
"""

import torch
from torch import nn

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
HALVING = (2, 4, 6, 12)
TAPS = (3, 5, 11, 13)


def convolution(before, after, size, stride=1, groups=1):
    return nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False)


def units():
    """Channels before and after, and the stride, of units 1 to 13."""
    before = 32
    for unit, after in enumerate(WIDTHS, start=1):
        yield before, after, 2 if unit in HALVING else 1
        before = after


class Separable(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = convolution(before, before, 3, stride, before)
        self.bn1 = nn.BatchNorm2d(before)
        self.conv2 = convolution(before, after, 1)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))


class Small(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = convolution(3, 32, 3)
        self.bn1 = nn.BatchNorm2d(32)
        self.layers = nn.Sequential(*(Separable(*unit) for unit in units()))
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, image):
        stem = self.bn1(self.conv1(image)).relu()
        return answers(stem, self.layers, self.linear)


class ImageNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        stem = nn.Sequential(convolution(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU())
        self.model = nn.Sequential(
            stem,
            *(
                nn.Sequential(
                    convolution(before, before, 3, stride, before),
                    nn.BatchNorm2d(before),
                    nn.ReLU(),
                    convolution(before, after, 1),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after, stride in units()
            ),
        )
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, image):
        without_relu = [unit[:-1] for unit in self.model[1:]]
        return answers(self.model[0](image), without_relu, self.fc)


def answers(stem, units, linear):
    x, pre = stem, []
    for number, unit in enumerate(units, start=1):
        normalized = unit(x)
        x = normalized.relu()
        if number in TAPS:
            pre.append(normalized)
    pooled = x.mean((2, 3))
    post = [torch.relu(x) for x in pre]
    features = {"stem": stem, "pre": pre, "post": post, "pooled": pooled}
    return linear(pooled), features


#: See `write.NETWORKS`. Smaller images leave the last batch norms too few values for
#: float32.
NETWORKS = {
    "mobilenet.kuangliu": (Small, 40),
    "mobilenet@224.overhaul": (ImageNet, 80),
}
