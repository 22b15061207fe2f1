"""What one training step computes: against labels, against a teacher, or against maps a teacher made before.

A step is called with (model, images, targets, epoch) and returns (total, [L2, L3, L4, L5]); the loop does the rest.
"""

from __future__ import annotations

import numpy as np
import paddle

from kdscfnet.errors import UserError, WeightsError
from kdscfnet.losses import distillation_loss, soft_target_loss, supervised_loss


def _outputs(model, images):
    """The four logit maps as float32: in mixed precision they come as float16, whose sums over 352² pixels overflow."""
    return [output if output.dtype == paddle.float32 else output.astype("float32") for output in model(images)]


class SupervisedStep:
    """targets: masks, float32 N×1×H×W in [0, 1]."""

    def __call__(self, model, images, targets, epoch):
        return supervised_loss(_outputs(model, images), targets, epoch)


class DistillationStep:
    """The teacher looks at the same augmented images; there are no labels.

    teacher: float32 tensor N×3×H×W → its finest logits, a float32 tensor N×1×H×W without gradient. None: targets are
    its saliency maps, float32 N×1×H×W in [0, 1], augmented with the images.
    """

    def __init__(self, teacher=None):
        self.teacher = teacher

    def __call__(self, model, images, targets, epoch):
        if self.teacher is None:
            return soft_target_loss(_outputs(model, images), targets)
        teacher_logits = self.teacher(images)
        return distillation_loss(_outputs(model, images), teacher_logits.astype("float32"))


class LabelsAndMapsStep:
    """targets: mask and teacher's map as two channels, float32 N×2×H×W in [0, 1].

    The losses are (1 − weight) · `supervised_loss` + weight · `soft_target_loss`.
    """

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, model, images, targets, epoch):
        outputs = _outputs(model, images)
        total, parts = supervised_loss(outputs, targets[:, :1], epoch)
        soft_total, soft_parts = soft_target_loss(outputs, targets[:, 1:])

        def mixed(hard, soft):
            return hard * (1 - self.weight) + soft * self.weight

        return mixed(total, soft_total), [mixed(hard, soft) for hard, soft in zip(parts, soft_parts)]


class PaddleTeacher:
    """A frozen network in dygraph: eval mode, no gradient."""

    runtime = "Paddle"

    def __init__(self, model):
        self.model = model
        model.eval()
        for parameter in model.parameters():
            parameter.stop_gradient = True

    def __call__(self, images):
        with paddle.no_grad():
            return self.model(images)[0]


class OnnxTeacher:
    """A frozen network in ONNX Runtime: several times as fast on a CPU, logits equal within 1e-5 of their range."""

    runtime = "ONNX Runtime"

    def __init__(self, network):
        self.network = network
        self.size = network.size  # the one (height, width) it runs at; None: any

    def __call__(self, images):
        return paddle.to_tensor(np.asarray(self.network(images.numpy()), np.float32))


def open_teacher(backbone, weights, engine="auto", sizes=()):
    """The teacher of a WeightFile or a path, as DistillationStep wants it. Raises UserError or WeightsError.

    engine: "paddle", "onnxruntime", or "auto": ONNX Runtime on a CPU where it is installed.
    sizes: the sizes it will see; an exported Swin-B has one.
    """
    from kdscfnet.inference.networks import open_network
    from kdscfnet.weights.weightfile import resolve

    weights = resolve(weights)
    if weights.kind != "exported" and weights.network() != backbone:
        reason = "holds a network with %s, the recipe's teacher has %s" % (weights.backbone, backbone)
        raise WeightsError(weights.path, reason)
    size = None
    if backbone == "swin_b":
        if len(set(sizes)) == 1:
            size = sizes[0]
        elif engine == "onnxruntime":
            raise UserError("an exported Swin-B runs at one size: give --sizes one number, or --teacher-engine paddle")
        else:
            engine = "paddle"
    device = None if engine == "onnxruntime" else paddle.device.get_device()
    network = open_network(weights, backbone, engine, size, device=device)
    return OnnxTeacher(network) if network.name == "onnxruntime" else PaddleTeacher(network.model)
