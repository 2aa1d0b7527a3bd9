"""Wide residual networks under the names of the overhaul paper's code."""

import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        if before != after:
            self.convShortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x):
        normalized = self.bn1(x)
        activated = normalized.relu()
        y = self.conv2(self.bn2(self.conv1(activated)).relu())
        if hasattr(self, "convShortcut"):
            x = self.convShortcut(activated)
        return x + y, normalized


class NetworkBlock(nn.Module):
    def __init__(self, blocks, before, after, stride):
        super().__init__()
        self.layer = nn.Sequential(
            *(
                BasicBlock(after if i else before, after, 1 if i else stride)
                for i in range(blocks)
            )
        )

    def forward(self, x):
        first = None
        for block in self.layer:
            x, normalized = block(x)
            first = normalized if first is None else first
        return x, first


class WideResNet(nn.Module):
    def __init__(self, depth, widen, num_classes=10):
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16, 16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = NetworkBlock(blocks, widths[0], widths[1], 1)
        self.block2 = NetworkBlock(blocks, widths[1], widths[2], 2)
        self.block3 = NetworkBlock(blocks, widths[2], widths[3], 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)

    def forward(self, image):
        stem = self.conv1(image)
        x, _ = self.block1(stem)
        x, pre1 = self.block2(x)
        x, pre2 = self.block3(x)
        pre3 = self.bn1(x)
        pooled = functional.adaptive_avg_pool2d(pre3.relu(), 1).flatten(1)
        pre = [pre1, pre2, pre3]
        post = [torch.relu(x) for x in pre]
        features = {"stem": stem, "pre": pre, "post": post, "pooled": pooled}
        return self.fc(pooled), features


#: See `write.NETWORKS`.
NETWORKS = {"wrn_16_2.overhaul": (lambda: WideResNet(16, 2), 32)}
