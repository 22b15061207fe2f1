"""The losses: Dice on regions, Dice on widened boundaries (PBSM), and their sums over the four outputs.

Throughout: `logits` float32 N×1×H×W, any value; `target` float32 N×1×H×W in [0, 1], soft values allowed. Sums are
over H and W, means over N. Source of the formulas: KD-SCFNet (ECCV 2022) and the authors' code.
"""

from __future__ import annotations

import paddle.nn.functional as F

OUTPUT_WEIGHTS = (1.0, 0.5, 0.25, 0.125)  # finest output first


def _dice(prediction, target):
    """Mean over the batch of 1 − (2·Σ p·m + 1) / (Σ(p + m) + 1); both tensors N×1×H×W or N×HW, in [0, 1].

    Regions are summed over (H, W) and boundaries over the flattened map (N×HW), as in the authors' code: the sums
    round differently, and after ten training steps it would show.
    """
    axes = [1] if prediction.ndim == 2 else [2, 3]
    intersection = (prediction * target).sum(axis=axes)
    union = (prediction + target).sum(axis=axes)
    return (1 - (2 * intersection + 1) / (union + 1)).mean()


def _max_pool(x, size):
    return F.max_pool2d(x, kernel_size=size, stride=1, padding=(size - 1) // 2)


def boundary_width(epoch):
    """The width in pixels of boundaries in `epoch` (from 0): 13, two less every ten epochs, at least 1."""
    return max(1, 13 - 2 * ((epoch + 1) // 10))


def boundary(saliency, epoch):
    """The widened boundary of a map in [0, 1] (progressive boundary selection module, PBSM); same shape."""
    background = 1 - saliency
    edge = _max_pool(background, 3) - background
    return _max_pool(edge, boundary_width(epoch))


def dice_loss(logits, target):
    """Dice loss between sigmoid(logits) and target. Returns a scalar in [0, 1)."""
    return _dice(F.sigmoid(logits), target)


def boundary_dice_loss(logits, target, epoch):
    """Dice loss between the widened boundaries of sigmoid(logits) and of target; `epoch` counts from 0. A scalar."""
    return _dice(boundary(F.sigmoid(logits), epoch).flatten(1), boundary(target, epoch).flatten(1))


def _weighted_sum(losses):
    total = losses[0]
    for weight, loss in zip(OUTPUT_WEIGHTS[1:], losses[1:]):
        total = total + loss * weight
    return total


def supervised_loss(logits, mask, epoch):
    """Loss against labels.

    Args:
        logits: the network's four outputs, finest first.
        mask: float32 N×1×H×W in [0, 1].
        epoch: from 0; it sets the boundaries' width.

    Returns (total, [L2, L3, L4, L5]), scalars; each L is region Dice plus boundary Dice, and
    total = L2 + L3/2 + L4/4 + L5/8.
    """
    mask_boundary = boundary(mask, epoch).flatten(1)  # once for the four outputs
    losses = []
    for output in logits:
        region = dice_loss(output, mask)
        # A second sigmoid, not the first one's result: gradients are then added up as in the authors' code, and ten
        # steps give the same bits.
        edges = _dice(boundary(F.sigmoid(output), epoch).flatten(1), mask_boundary)
        losses.append(region + edges)
    return _weighted_sum(losses), losses


def distillation_loss(student_logits, teacher_logits):
    """Loss against a teacher, without labels.

    Args:
        student_logits: the student's four outputs, finest first.
        teacher_logits: the teacher's finest output, the target of all four; no gradient flows into it.

    Returns (total, [L2, L3, L4, L5]) as `supervised_loss`; each L is region Dice alone.
    """
    return soft_target_loss(student_logits, F.sigmoid(teacher_logits))


def soft_target_loss(student_logits, target):
    """`distillation_loss` with the teacher's saliency map itself, float32 N×1×H×W in [0, 1]."""
    target = target.detach()
    losses = [dice_loss(output, target) for output in student_logits]
    return _weighted_sum(losses), losses
