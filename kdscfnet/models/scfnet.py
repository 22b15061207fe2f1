"""SCFNet: a backbone, a mapping module, and three semantics-guided contextual fusion modules (SCFM)."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from kdscfnet.models.backbones import BACKBONES

CHANNELS = {"mobilenetv3": 16, "resnet50": 64, "swin_b": 64}


def resize(x, like):
    """`x`, N×C×h×w, to the height and width of `like`; bilinear, align_corners=False as everywhere in the network."""
    # When Paddle 2.2 traces the network, .shape has -1 for a free side; paddle.shape asks the tensor
    size = like.shape[2:] if paddle.in_dynamic_mode() else paddle.shape(like)[2:]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def conv_bn_relu(in_channels, out_channels, dilation=1):
    """3×3 convolution with bias, BatchNorm, ReLU; the size stays."""
    return nn.Sequential(
        nn.Conv2D(in_channels, out_channels, 3, padding=dilation, dilation=dilation),
        nn.BatchNorm2D(out_channels),
        nn.ReLU(),
    )


class MappingModule(nn.Layer):
    """Brings the four backbone maps to `channels` channels each."""

    def __init__(self, in_channels, channels):
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4 = (conv_bn_relu(c, channels) for c in in_channels)

    def forward(self, x2, x3, x4, x5):
        return self.cv1(x2), self.cv2(x3), self.cv3(x4), self.cv4(x5)


class SCFM(nn.Layer):
    """Semantics-guided contextual fusion module: the deepest map guides the coarse one, which guides the fine one."""

    def __init__(self, channels):
        super().__init__()
        self.cv1, self.cv2, self.cv3 = (conv_bn_relu(channels, channels) for _ in range(3))

    def forward(self, low, high, deepest):
        coarse = self.cv1(high + high * resize(deepest, high))
        fine = self.cv2(low + low * resize(high, low))
        # The order of this sum decides the order in which gradients are added up: with the other one, losses differ
        # from the authors' in the seventh digit after one step and in the fifth after ten.
        return self.cv3(fine + resize(coarse, low))


class SCFNet(nn.Layer):
    """The saliency network.

    Args:
        backbone: "mobilenetv3" (the student), "resnet50" or "swin_b" (the teachers). Reads no file.

    forward(x): float32 N×3×H×W, RGB, normalised (kdscfnet.processing) → four logit maps, float32
    N×1×H×W, finest first. A saliency map is the sigmoid of the first.
    """

    def __init__(self, backbone: str) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError("backbone is %r: one of %s" % (backbone, ", ".join(map(repr, BACKBONES))))
        channels = CHANNELS[backbone]
        self.backbone = backbone
        self.bkbone = BACKBONES[backbone]()
        self.mp = MappingModule(self.bkbone.out_channels, channels)
        self.cv1 = conv_bn_relu(channels, channels, dilation=5)
        self.de1, self.de2, self.de3 = SCFM(channels), SCFM(channels), SCFM(channels)
        self.linear2, self.linear3, self.linear4, self.linear5 = (
            nn.Conv2D(channels, 1, 3, padding=1) for _ in range(4)
        )
        kaiming, zero = nn.initializer.KaimingNormal(), nn.initializer.Constant(0.0)  # BatchNorm is 1 and 0 already
        for name, layer in self.named_sublayers():
            if not name.startswith("bkbone") and isinstance(layer, nn.Conv2D):
                kaiming(layer.weight)
                zero(layer.bias)

    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        _, f2, f3, f4, f5 = self.bkbone(x)
        x2, x3, x4, x5 = self.mp(f2, f3, f4, f5)  # N×C at strides 4, 8, 16, 32
        x5 = self.cv1(x5)
        x4 = self.de3(x4, x5, x5)
        x3 = self.de2(x3, x4, x5)
        x2 = self.de1(x2, x3, x5)
        return (
            resize(self.linear2(x2), x),
            resize(self.linear3(x3), x),
            resize(self.linear4(x4), x),
            resize(self.linear5(x5), x),
        )
