"""The optimizer of the card: Momentum, with the backbone at a tenth of the learning rate."""
from __future__ import annotations

import paddle

from kdscfnet.recipes import BACKBONE_LR_FACTOR, MOMENTUM, WEIGHT_DECAY


def build_optimizer(model, learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, backbone_lr_factor=BACKBONE_LR_FACTOR):
    """Momentum with L2 weight decay.

    Parameters that carry a regularizer of their own (MobileNetV3's BatchNorm: no decay) keep it.

    Args:
        model: an SCFNet.
        learning_rate: a float, or a paddle.optimizer.lr.LRScheduler.
    """
    backbone = {id(p) for p in model.bkbone.parameters()}
    groups = [
        {"params": model.bkbone.parameters(), "learning_rate": backbone_lr_factor},
        {"params": [p for p in model.parameters() if id(p) not in backbone]},
    ]
    return paddle.optimizer.Momentum(
        learning_rate=learning_rate,
        momentum=momentum,
        parameters=groups,
        weight_decay=paddle.regularizer.L2Decay(weight_decay),
    )
