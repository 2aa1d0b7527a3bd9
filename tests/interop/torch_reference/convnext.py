"""ConvNeXts of timm and of torchvision themselves, and their features."""

import functools


def features(stem, taps, pooled):
    return {"stem": stem, "pre": taps, "post": taps, "pooled": pooled}


def timm_answers(network, image):
    stem = x = network.stem(image)
    taps = []
    for stage in network.stages:
        x = stage(x)
        taps.append(x)
    pooled = network.forward_head(x, pre_logits=True)
    return type(network).forward(network, image), features(stem, taps, pooled)


def torchvision_answers(network, image):
    x, found = image, []
    for part in network.features:
        x = part(x)
        found.append(x)
    # The stem, then stages and what is between them.
    stem, taps = found[0], found[1::2]
    pooled = network.classifier[:2](network.avgpool(x))
    return type(network).forward(network, image), features(stem, taps, pooled)


def timm_network():
    import timm

    network = timm.create_model("convnext_atto", num_classes=10)
    network.forward = functools.partial(timm_answers, network)
    return network


def torchvision_network():
    """One of the depths and widths of timm's smallest."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    widths, depths = (40, 80, 160, 320), (2, 2, 6, 2)
    settings = zip(widths, (*widths[1:], None), depths, strict=True)
    network = ConvNeXt([CNBlockConfig(*each) for each in settings], num_classes=10)
    network.forward = functools.partial(torchvision_answers, network)
    return network


#: See `write.NETWORKS`.
NETWORKS = {
    "convnext_atto@224.timm": (timm_network, 32),
    "convnext_atto@224.torchvision": (torchvision_network, 32),
}
