"""MobileNetV2 under the names of RepDistiller, half as wide, and of torchvision."""

from torch import nn

#: Expansion, channels at full width, blocks and stride.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
TAPS = (1, 2, 4, 6)


def parts(before, after, size, relu, stride=1, groups=1):
    return (
        nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        relu(),
    )


class Bottleneck(nn.Module):
    def __init__(self, before, after, stride, expansion, torchvision):
        super().__init__()
        self.shortcut = stride == 1 and before == after
        width = before * expansion
        relu = nn.ReLU6 if torchvision else nn.ReLU
        expand = parts(before, width, 1, relu)
        depthwise = parts(width, width, 3, relu, stride, width)
        project = parts(width, after, 1, relu)[:2]
        if torchvision:
            expand = [nn.Sequential(*expand)] if expansion > 1 else []
            depthwise = [nn.Sequential(*depthwise)]
        self.conv = nn.Sequential(*expand, *depthwise, *project)

    def forward(self, x):
        return x + self.conv(x) if self.shortcut else self.conv(x)


def stages(divisor, strides, torchvision):
    before = 32 // divisor
    for (expansion, width, number, _), stride in zip(STAGES, strides, strict=True):
        blocks = []
        for index in range(number):
            step = 1 if index else stride
            after = width // divisor
            blocks.append(Bottleneck(before, after, step, expansion, torchvision))
            before = after
        yield blocks


def answers(stem, stages, head, classifier):
    x, taps = stem, []
    for index, blocks in enumerate(stages):
        for block in blocks:
            x = block(x)
        if index in TAPS:
            taps.append(x)
    pooled = head(x).mean((2, 3))
    features = {"stem": stem, "pre": taps, "post": taps, "pooled": pooled}
    return classifier(pooled), features


class Half(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Sequential(*parts(3, 16, 3, nn.ReLU, 2))
        strides = (1, 1, 2, 2, 1, 2, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*blocks) for blocks in stages(2, strides, False)
        )
        self.conv2 = nn.Sequential(*parts(160, 1280, 1, nn.ReLU))
        self.classifier = nn.Sequential(nn.Linear(1280, num_classes))

    def forward(self, image):
        return answers(self.conv1(image), self.blocks, self.conv2, self.classifier)


class Torchvision(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        strides = [stride for *_, stride in STAGES]
        self.features = nn.Sequential(
            nn.Sequential(*parts(3, 32, 3, nn.ReLU6, 2)),
            *(block for blocks in stages(1, strides, True) for block in blocks),
            nn.Sequential(*parts(320, 1280, 1, nn.ReLU6)),
        )
        # The dropout before it has no weights, and is not among what is compared.
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(1280, num_classes))

    def forward(self, image):
        stem, *blocks, head = self.features
        blocks = iter(blocks)
        stages = [[next(blocks) for _ in range(number)] for *_, number, _ in STAGES]
        return answers(stem(image), stages, head, self.classifier)


#: See `write.NETWORKS`. Smaller images leave the last batch norms too few values for
#: float32.
NETWORKS = {
    "mobilenet_v2.repdistiller": (Half, 48),
    "mobilenet_v2@224.torchvision": (Torchvision, 80),
}
