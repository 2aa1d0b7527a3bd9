"""VGG networks with batch norms under the names of RepDistiller."""

from torch import nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512, 512)


def block(before, after, number):
    """Ends in a batch norm: the last ReLU is applied outside."""
    parts = []
    for _ in range(number):
        parts += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        parts += [nn.ReLU()]
        before = after
    return nn.Sequential(*parts[:-1])


class VGG(nn.Module):
    def __init__(self, convolutions, pools, num_classes=10):
        super().__init__()
        self.pools = pools
        before = 3
        for index, (width, number) in enumerate(zip(WIDTHS, convolutions, strict=True)):
            setattr(self, f"block{index}", block(before, width, number))
            before = width
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, x):
        pre, post = [], []
        for index in range(5):
            pre.append(getattr(self, f"block{index}")(x))
            post.append(pre[-1].relu())
            x = post[-1]
            if index < self.pools:
                x = functional.max_pool2d(x, 2)
        pooled = x.mean((2, 3))
        return self.classifier(pooled), {
            "stem": post[0],
            "pre": pre[1:],
            "post": post[1:],
            "pooled": pooled,
        }


#: See `write.NETWORKS`. The form for 64x64 images gets smaller ones, to store less.
NETWORKS = {
    "vgg8.repdistiller": (lambda: VGG((1, 1, 1, 1, 1), 3), 32),
    "vgg8@64.repdistiller": (lambda: VGG((1, 1, 1, 1, 1), 4), 32),
}
