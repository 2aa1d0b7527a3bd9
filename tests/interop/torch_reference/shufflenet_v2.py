"""ShuffleNetV2 under the names of RepDistiller."""

import torch
from torch import nn

from tests.interop.torch_reference.shufflenet import shuffle


def depthwise(width, stride):
    return nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)


def pointwise(before, after):
    return nn.Conv2d(before, after, 1, bias=False)


class Down(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        half = after // 2
        self.conv1, self.bn1 = depthwise(before, 2), nn.BatchNorm2d(before)
        self.conv2, self.bn2 = pointwise(before, half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = pointwise(before, half), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = depthwise(half, 2), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = pointwise(half, half), nn.BatchNorm2d(half)

    def forward(self, x):
        left = self.bn2(self.conv2(self.bn1(self.conv1(x)))).relu()
        right = self.bn4(self.conv4(self.bn3(self.conv3(x)).relu()))
        right = self.bn5(self.conv5(right)).relu()
        return shuffle(torch.cat([left, right], 1), 2)


class Basic(nn.Module):
    def __init__(self, width):
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = pointwise(half, half), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = depthwise(half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = pointwise(half, half), nn.BatchNorm2d(half)

    def forward(self, x):
        """Returns the output before its last ReLU, and the output."""
        passed, y = x.chunk(2, 1)
        y = self.bn2(self.conv2(self.bn1(self.conv1(y)).relu()))
        y = self.bn3(self.conv3(y))
        before_relu = shuffle(torch.cat([passed, y], 1), 2)
        return before_relu, shuffle(torch.cat([passed, y.relu()], 1), 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1, self.bn1 = pointwise(3, 24), nn.BatchNorm2d(24)
        self.layer1 = self.stage(24, 116, 3)
        self.layer2 = self.stage(116, 232, 7)
        self.layer3 = self.stage(232, 464, 3)
        self.conv2, self.bn2 = pointwise(464, 1024), nn.BatchNorm2d(1024)
        self.linear = nn.Linear(1024, num_classes)

    @staticmethod
    def stage(before, after, blocks):
        others = (Basic(after) for _ in range(blocks))
        return nn.Sequential(Down(before, after), *others)

    def forward(self, image):
        stem = x = self.bn1(self.conv1(image)).relu()
        pre, post = [], []
        for down, *blocks in (self.layer1, self.layer2, self.layer3):
            x = down(x)
            for block in blocks:
                before_relu, x = block(x)
            pre.append(before_relu)
            post.append(x)
        pooled = self.bn2(self.conv2(x)).relu().mean((2, 3))
        features = {"stem": stem, "pre": pre, "post": post, "pooled": pooled}
        return self.linear(pooled), features


#: See `write.NETWORKS`.
NETWORKS = {"shufflenet_v2.repdistiller": (ShuffleNetV2, 32)}
