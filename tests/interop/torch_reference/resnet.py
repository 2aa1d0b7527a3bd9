"""Residual networks as public PyTorch code has them, each ReLU at the end of its block.

"overhaul" are the names of torchvision and RepDistiller, "linear" those of
akamaster/pytorch_resnet_cifar10 and kuangliu/pytorch-cifar.
"""

import functools

from torch import nn
from torch.nn import functional

#: What a layout calls the shortcut and the classifier.
LAYOUTS = {"overhaul": ("downsample", "fc"), "linear": ("shortcut", "linear")}


def convolution(before, after, size, stride=1):
    return nn.Conv2d(before, after, size, stride, size // 2, bias=False)


class Block(nn.Module):
    expansion = 1

    def __init__(self, before, planes, stride, shortcut, zero_padded=False):
        super().__init__()
        after = self.expansion * planes
        self.padding = self.shortcut_name = None
        self.stride = stride
        self.make_branch(before, planes, stride)
        if before == after and stride == 1:
            return
        if zero_padded:
            self.padding = (after - before) // 2
        else:
            self.shortcut_name = shortcut
            projection = convolution(before, after, 1, stride)
            self.add_module(shortcut, nn.Sequential(projection, nn.BatchNorm2d(after)))

    def make_branch(self, before, planes, stride):
        self.conv1 = convolution(before, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)

    def branch(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.bn2(self.conv2(x))

    def forward(self, x):
        """Returns the sum after the last block's ReLU, and before its own."""
        y = self.branch(x)
        if self.padding is not None:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.padding, self.padding))
        elif self.shortcut_name:
            x = getattr(self, self.shortcut_name)(x)
        return (x + y).relu(), x + y


class Bottleneck(Block):
    expansion = 4

    def make_branch(self, before, planes, stride):
        self.conv1 = convolution(before, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)

    def branch(self, x):
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        return self.bn3(self.conv3(x))


class ResNet(nn.Module):
    def __init__(
        self,
        block,
        blocks,
        stem,
        widths,
        layout,
        imagenet=False,
        zero_padded=False,
        num_classes=10,
    ):
        super().__init__()
        shortcut, self.classifier_name = LAYOUTS[layout]
        self.conv1 = convolution(3, stem, 7, 2) if imagenet else convolution(3, stem, 3)
        self.bn1 = nn.BatchNorm2d(stem)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        before, self.groups = stem, len(widths)
        for group, (number, planes) in enumerate(
            zip(blocks, widths, strict=True), start=1
        ):
            made = []
            for index in range(number):
                stride = 2 if group > 1 and index == 0 else 1
                made.append(block(before, planes, stride, shortcut, zero_padded))
                before = block.expansion * planes
            self.add_module(f"layer{group}", nn.Sequential(*made))
        self.add_module(self.classifier_name, nn.Linear(before, num_classes))

    def forward(self, image):
        x = stem = self.maxpool(self.bn1(self.conv1(image)).relu())
        pre, post = [], []
        for group in range(1, self.groups + 1):
            for block in getattr(self, f"layer{group}"):
                x, total = block(x)
            pre.append(total)
            post.append(x)
        pooled = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        features = {"stem": stem, "pre": pre, "post": post, "pooled": pooled}
        return getattr(self, self.classifier_name)(pooled), features


WIDE = (64, 128, 256, 512)
resnet18 = functools.partial(ResNet, Block, (2, 2, 2, 2), 64, WIDE)
resnet50 = functools.partial(ResNet, Bottleneck, (3, 4, 6, 3), 64, WIDE)

#: See `write.NETWORKS`. The images are smaller than a network's own, as its maps are.
NETWORKS = {
    "resnet8.overhaul": (
        lambda: ResNet(Block, (1, 1, 1), 16, (16, 32, 64), "overhaul"),
        16,
    ),
    "resnet8x4.overhaul": (
        lambda: ResNet(Block, (1, 1, 1), 32, (64, 128, 256), "overhaul"),
        16,
    ),
    "resnet14_zero_padded.linear": (
        lambda: ResNet(Block, (2, 2, 2), 16, (16, 32, 64), "linear", zero_padded=True),
        16,
    ),
    "resnet18.linear": (lambda: resnet18("linear"), 32),
    "resnet50.linear": (lambda: resnet50("linear"), 32),
    "resnet18@224.overhaul": (lambda: resnet18("overhaul", imagenet=True), 64),
    "resnet50@224.overhaul": (lambda: resnet50("overhaul", imagenet=True), 64),
}
