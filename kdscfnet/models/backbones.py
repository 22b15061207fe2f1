"""The three backbones: adapters around library networks, with one contract.

A backbone is a Layer with `out_channels` (four integers, fine to coarse) whose forward takes an image, float32
N×3×H×W, and returns five maps. The first is not used by the decoder; the other four have strides 4, 8, 16, 32.
Parameter names are those of the authors' checkpoints. Building a backbone reads no file.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
import warnings

import numpy as np
import paddle
from paddle import nn
from paddle.vision.models.resnet import BottleneckBlock, ResNet


class _ScikitLearn(types.ModuleType):
    """Stands in for sklearn.metrics, and loads it at its first use."""

    def __getattr__(self, name):
        return getattr(importlib.import_module("sklearn.metrics"), name)


# paddleseg imports scikit-learn for one score that nothing here asks for. It takes as long to load as Paddle does.
_stood_in = "sklearn" not in sys.modules
if _stood_in:
    sys.modules["sklearn"] = types.ModuleType("sklearn")
    sys.modules["sklearn"].metrics = sys.modules["sklearn.metrics"] = _ScikitLearn("sklearn.metrics")
try:
    with warnings.catch_warnings():  # importing paddleseg warns about a compiler cache that is of no use here
        warnings.simplefilter("ignore")
        from paddleseg.models.backbones import mobilenetv3, swin_transformer
finally:
    if _stood_in:
        del sys.modules["sklearn"], sys.modules["sklearn.metrics"]


class MobileNetV3(mobilenetv3.MobileNetV3):
    """MobileNetV3-large x0.5. BatchNorm scales and shifts carry L2Decay(0): they are not decayed in training."""

    out_channels = (16, 24, 56, 80)

    def __init__(self):
        super().__init__(
            mobilenetv3.NET_CONFIG["large"],
            mobilenetv3.MODEL_STAGES_PATTERN["MobileNetV3_large"],
            mobilenetv3.OUT_INDEX["large"],
            scale=0.5,
        )

    def forward(self, image):
        x = self.conv(image)  # N×8×H/2×W/2
        maps = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.out_index:
                maps.append(x)
        return maps


class ResNet50(ResNet):
    """ResNet-50 with the names of paddle.vision, without the classifier (PaddleSeg's ResNet is the vd variant)."""

    out_channels = (256, 512, 1024, 2048)

    def __init__(self):
        super().__init__(BottleneckBlock, 50, num_classes=0, with_pool=False)

    def forward(self, image):
        x1 = self.maxpool(self.relu(self.bn1(self.conv1(image))))  # N×64×H/4×W/4
        x2 = self.layer1(x1)  # without a loop over the stages, which Paddle 2.2 cannot trace
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        x5 = self.layer4(x4)
        return [x1, x2, x3, x4, x5]


class SwinB(swin_transformer.SwinTransformer):
    """Swin-B, window 12, as the authors tap it; runs at any size and equals theirs at 384².

    The taps are unusual: the patch embedding; stages 1 and 2 after their patch merging; stage 4 without a final norm.
    Where one window covers the whole map in either direction (stage 4 at 384²) windows are not shifted. Maps that are
    no multiple of the window are padded with zeros at the right and the bottom.
    """

    out_channels = (128, 256, 512, 1024)
    window = 12
    native_map = 96  # side of the patch embedding at 384², the size that the stored attention masks belong to

    def __init__(self):
        super().__init__(
            pretrain_img_size=384,
            embed_dim=128,
            depths=[2, 2, 18, 2],
            num_heads=[4, 8, 16, 32],
            window_size=self.window,
            drop_path_rate=0.5,
            out_indices=(),
        )
        self.norm = nn.LayerNorm(1024)  # in every checkpoint, not used in the forward pass
        # These buffers are in the checkpoints too. They follow from the size alone, and the forward pass makes its own.
        for index, stage in enumerate(self.layers):
            side = self.native_map >> index
            if self._shift(side, side):
                for block in stage.blocks[1::2]:
                    block.register_buffer("attn_mask", paddle.to_tensor(shift_mask(side, side, self.window)))
        self._masks = {}

    def _shift(self, height, width):
        return self.window // 2 if min(height, width) > self.window else 0

    def _mask(self, height, width):
        """The mask for shifted windows on a height×width map, kept from one call to the next."""
        tiles = tuple(math.ceil(side / self.window) for side in (height, width))
        key = (tiles, str(paddle.get_device()))
        if key not in self._masks:
            with paddle.no_grad():
                self._masks[key] = paddle.to_tensor(shift_mask(height, width, self.window))
        return self._masks[key]

    def forward(self, image):
        x = self.patch_embed(image)  # N×128×H/4×W/4
        height, width = x.shape[2:]
        maps = [x, x]
        x = self.pos_drop(x.flatten(2).transpose([0, 2, 1]))
        for index, stage in enumerate(self.layers):
            shift = self._shift(height, width)
            mask = self._mask(height, width) if shift else None
            for number, block in enumerate(stage.blocks):
                block.H, block.W = height, width
                block.shift_size = shift if number % 2 else 0
                x = block(x, mask)
            if stage.downsample is not None:
                x = stage.downsample(x, height, width)
                height, width = (height + 1) // 2, (width + 1) // 2
            if index != 2:  # the merged output of stage 3 only feeds stage 4
                maps.append(x.transpose([0, 2, 1]).reshape([x.shape[0], x.shape[2], height, width]))
        return maps


def shift_mask(height, width, window):
    """The additive mask of shifted-window attention (Swin Transformer, section 3.2).

    Windows that wrap around hold tokens of up to nine regions that are no neighbours in the image: 0 between tokens of
    one region, -100 between tokens of two. Returns float32 (windows, window², window²).
    """
    height, width = (math.ceil(side / window) * window for side in (height, width))
    region = np.zeros((height, width), np.int64)
    cuts = (slice(0, -window), slice(-window, -(window // 2)), slice(-(window // 2), None))
    for row, rows in enumerate(cuts):
        for column, columns in enumerate(cuts):
            region[rows, columns] = 3 * row + column
    tokens = (
        region.reshape(height // window, window, width // window, window).swapaxes(1, 2).reshape(-1, window * window)
    )
    return np.where(tokens[:, None, :] != tokens[:, :, None], np.float32(-100), np.float32(0))


BACKBONES = {"mobilenetv3": MobileNetV3, "resnet50": ResNet50, "swin_b": SwinB}
