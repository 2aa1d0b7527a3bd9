"""ShuffleNet under the names of RepDistiller."""

import torch
from torch import nn
from torch.nn import functional


def shuffle(x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class Bottleneck(nn.Module):
    def __init__(self, before, after, stride, groups):
        super().__init__()
        middle = after // 4
        self.stride = stride
        self.groups = 1 if before == 24 else groups
        self.conv1 = nn.Conv2d(before, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, after, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(after)

    def forward(self, x):
        """Returns the output before its ReLU."""
        y = shuffle(self.bn1(self.conv1(x)).relu(), self.groups)
        y = self.bn3(self.conv3(self.bn2(self.conv2(y)).relu()))
        if self.stride == 1:
            return y + x
        return torch.cat([y, functional.avg_pool2d(x, 3, 2, 1)], 1)


class ShuffleNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = self.stage(24, 240, 4)
        self.layer2 = self.stage(240, 480, 8)
        self.layer3 = self.stage(480, 960, 4)
        self.linear = nn.Linear(960, num_classes)

    @staticmethod
    def stage(before, after, blocks):
        first = Bottleneck(before, after - before, 2, 3)
        others = (Bottleneck(after, after, 1, 3) for _ in range(blocks - 1))
        return nn.Sequential(first, *others)

    def forward(self, image):
        stem = x = self.bn1(self.conv1(image)).relu()
        pre, post = [], []
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                total = block(x)
                x = total.relu()
            pre.append(total)
            post.append(x)
        pooled = x.mean((2, 3))
        features = {"stem": stem, "pre": pre, "post": post, "pooled": pooled}
        return self.linear(pooled), features


#: See `write.NETWORKS`.
NETWORKS = {"shufflenet_v1.repdistiller": (ShuffleNet, 32)}
