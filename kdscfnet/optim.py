"""The authors' optimizer: Momentum, with the backbone at a tenth of the learning rate."""

from __future__ import annotations

import paddle

from kdscfnet.recipes import Recipe


def build_optimizer(
    model,
    learning_rate,
    momentum=Recipe.momentum,
    weight_decay=Recipe.weight_decay,
    backbone_lr_factor=Recipe.backbone_lr_factor,
):
    """Momentum with L2 weight decay.

    Parameters that carry a regularizer of their own (MobileNetV3's BatchNorm: no decay) keep it.

    Args:
        model: an SCFNet.
        learning_rate: a float, or a paddle.optimizer.lr.LRScheduler.
    """
    # Not by parameter groups: those overwrite each parameter's own regularizer (seen in Paddle 2.2 to 3.3), and
    # MobileNetV3's BatchNorm would be decayed after all.
    for parameter in model.bkbone.parameters():
        parameter.optimize_attr["learning_rate"] = backbone_lr_factor
    return paddle.optimizer.Momentum(learning_rate, momentum, model.parameters(), weight_decay=weight_decay)
