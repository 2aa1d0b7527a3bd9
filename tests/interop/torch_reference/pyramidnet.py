"""Pyramidal residual networks under the names of the overhaul paper's code."""

import torch
from torch import nn
from torch.nn import functional


def convolution(before, after, size, stride=1):
    return nn.Conv2d(before, after, size, stride, size // 2, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, before, planes, stride):
        super().__init__()
        self.stride = stride
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = convolution(before, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3)
        self.bn3 = nn.BatchNorm2d(planes)

    def branch(self, x):
        """Returns the branch, and the feature that a distiller takes inside of it."""
        feature = self.bn1(x)
        y = self.bn2(self.conv1(feature)).relu()
        return self.bn3(self.conv2(y)), feature

    def forward(self, x):
        y, feature = self.branch(x)
        if self.stride == 2:
            x = functional.avg_pool2d(x, 2, 2, ceil_mode=True)
        batch, channels, height, width = x.shape
        zeros = torch.zeros(batch, y.shape[1] - channels, height, width, dtype=x.dtype)
        return y + torch.cat([x, zeros], 1), feature


class Bottleneck(BasicBlock):
    expansion = 4

    def __init__(self, before, planes, stride):
        nn.Module.__init__(self)
        self.stride = stride
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = convolution(before, planes, 1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3, stride)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, 4 * planes, 1)
        self.bn4 = nn.BatchNorm2d(4 * planes)

    def branch(self, x):
        feature = self.bn2(self.conv1(self.bn1(x)))
        y = self.bn3(self.conv2(feature.relu())).relu()
        return self.bn4(self.conv3(y)), feature


class PyramidNet(nn.Module):
    def __init__(self, block, blocks, alpha, num_classes=10):
        super().__init__()
        self.conv1 = convolution(3, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        before, total = 16, 16.0
        for group in (1, 2, 3):
            made = []
            for index in range(blocks):
                total += alpha / (3 * blocks)
                planes = round(total)
                stride = 2 if group > 1 and index == 0 else 1
                made.append(block(before, planes, stride))
                before = block.expansion * planes
            self.add_module(f"layer{group}", nn.Sequential(*made))
        self.bn_final = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, image):
        x = stem = self.bn1(self.conv1(image))
        pre = []
        for layer in (self.layer1, self.layer2, self.layer3):
            for index, block in enumerate(layer):
                x, feature = block(x)
                if index == 0 and layer is not self.layer1:
                    pre.append(feature)
        pre.append(self.bn_final(x))
        post = [feature.relu() for feature in pre]
        pooled = functional.adaptive_avg_pool2d(post[-1], 1).flatten(1)
        features = {"stem": stem, "pre": pre, "post": post, "pooled": pooled}
        return self.fc(pooled), features


#: See `write.NETWORKS`. Maps of 9x9 test the averages at the edge.
NETWORKS = {
    "pyramidnet_20_6_bottleneck.overhaul": (lambda: PyramidNet(Bottleneck, 2, 6), 16),
    "pyramidnet_14_20_basic.overhaul": (lambda: PyramidNet(BasicBlock, 2, 20), 18),
}
