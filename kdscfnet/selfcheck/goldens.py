"""What the authors' code computed, the networks it was computed with, and how far another device may be from it.

Goldens: forward.npz and train.json hold what the authors' code gave on PaddlePaddle 2.2.0, CPU, one thread.
gradients.json was recorded by this package, whose training steps equal theirs: the authors' gradients were not kept.

Tolerances are derived: tests/record_selfcheck.py lets the networks round as a machine does that sums in another order
(`add_rounding`), at the true size of the arithmetic's roundings, and writes down how much results change. That change,
times SAFETY, is the tolerance. Nothing is scaled: a maximum that a boundary takes from another pixel is as likely, and
as far away, as on another machine, and ten steps let it grow as they do there. SAFETY is for the few draws: with eight
values a change, eight times their root mean square is exceeded by chance once in 20,000.
A loss divides two sums of n pixels, each with a relative error of √n·2⁻²⁴: `loss_tolerance` is twice that. Each update
rounds a weight, by 2⁻²⁴ of it at most on each of two machines. Sums over pixels are taken in LANES parts.
√n is the probabilistic bound of Higham and Mary, A new approach to probabilistic rounding error analysis, 2019.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os

import numpy as np

BACKBONES = {"M3_0.5": "mobilenetv3", "R50": "resnet50", "ST": "swin_b"}
SAFETY = 8
# Relative round-off of a product's two factors: TF32 and float16 keep 11 bits, and sum in float32.
FACTORS = {"float32": 0.0, "tf32": 2.0**0.5 * 2.0**-11}
LANES = 16  # accumulators of a sum over pixels, at least: a vector register's lanes twice, half of a GPU's warp
SIDE = 224  # of the images of gradients and training steps
FORWARDS = (("M3_0.5", (1, 352, 352)), ("M3_0.5", (2, SIDE, SIDE)), ("R50", (1, 352, 352)), ("ST", (1, 384, 384)))


def folder():
    """Where the goldens are: in the installed package, or in a clone's tests."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "golden")
    return installed if os.path.isdir(installed) else os.path.join(here, "..", "..", "tests", "golden")


def _module(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder(), name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Goldens:
    """forward, train, gradients, sensitivities: as recorded; image, mask, weight: functions of golden_inputs.py."""

    def __init__(self):
        inputs = _module("golden_inputs")
        self.image, self.mask, self.weight = inputs.image, inputs.mask, inputs.weight
        self._derived = inputs.DERIVED_BUFFERS
        with np.load(os.path.join(folder(), "forward.npz")) as file:
            self.forward = {key: file[key] for key in file.files}
        self.train = self._json("train")
        self.gradients = self._json("gradients")
        self.sensitivities = self._json("sensitivities")

    @staticmethod
    def _json(name):
        with contextlib.suppress(FileNotFoundError):  # tests/record_selfcheck.py makes two of them
            with open(os.path.join(folder(), name + ".json"), encoding="utf-8") as file:
                return json.load(file)
        return {}

    def network(self, kind):
        """An SCFNet ("M3_0.5", "R50", "ST") whose every entry is `weight` of its key."""
        from kdscfnet.models.scfnet import SCFNet

        model = SCFNet(BACKBONES[kind])
        for key, value in model.state_dict().items():
            if not key.endswith(self._derived):
                value.set_value(self.weight(key, tuple(value.shape)))
        return model

    def direction(self, key, shape):
        """A unit vector that belongs to a parameter: float32 of its shape."""
        vector = np.random.RandomState(len(key) + 1000 * int(np.prod(shape)) % 7919).standard_normal(shape)
        return (vector / np.sqrt((vector**2).sum())).astype("float32")


def forward(goldens, kind, shape, run=None, model=None):
    """The four outputs of a golden network in eval mode at every eighth row and column: float32 [4, n, h/8, w/8].

    run: (model, images) → outputs, where they are not simply the model's. model: the network, where it is made already.
    """
    import paddle

    model = model or goldens.network(kind)
    model.eval()
    n, h, w = shape
    with paddle.no_grad():
        images = paddle.to_tensor(goldens.image(h * 1000 + w, n, h, w))
        outputs = run(model, images) if run else model(images)
    return np.stack([output.astype("float32").numpy()[:, 0, ::8, ::8] for output in outputs])


def recorded_forward(goldens, kind, shape):
    """What the authors' code gave for `forward`."""
    return np.stack([goldens.forward["%s|%dx%dx%d|out%d" % ((kind,) + shape + (i,))][:, 0] for i in range(2, 6)])


def losses(goldens):
    """{name: value} of the loss functions on the recorded inputs, as in train.json."""
    import paddle

    from kdscfnet import losses as functions

    rng = np.random.RandomState(0)
    pred, teacher = (rng.standard_normal((3, 1, 64, 80)).astype("float32") * 2 for _ in range(2))
    soft = rng.uniform(0, 1, (3, 1, 64, 80)).astype("float32")
    pred, teacher, soft, mask = map(paddle.to_tensor, (pred, teacher, soft, goldens.mask(1, 3, 64, 80)))
    found = {"dice": functions.dice_loss(pred, mask), "dice, soft target": functions.dice_loss(pred, soft)}
    for epoch in goldens.train["loss"]["boundary"]:
        found["boundary, epoch " + epoch] = functions.boundary_dice_loss(pred, mask, int(epoch))
    found["distillation"] = functions.distillation_loss([pred] * 4, teacher)[1][0]
    return {name: float(value) for name, value in found.items()}


def recorded_losses(goldens):
    """What the authors' code gave for `losses`."""
    recorded = goldens.train["loss"]
    found = {"dice": recorded["dice"], "dice, soft target": recorded["dice_soft"]}
    found.update(("boundary, epoch " + epoch, value) for epoch, value in recorded["boundary"].items())
    found["distillation"] = recorded["kd_dice"]
    return found


def gradients(goldens, context=contextlib.nullcontext, scale=1.0, prepare=lambda model: None):
    """The student's gradients in training mode, of four images' supervised loss: {parameter: [norm, projection]}.

    projection: on `direction`. context: of the forward pass. scale: the loss is multiplied by it, gradients divided.
    """
    import paddle

    from kdscfnet.training.steps import SupervisedStep

    model = goldens.network("M3_0.5")
    prepare(model)
    model.train()
    images, masks = (
        paddle.to_tensor(goldens.image(100, 4, SIDE, SIDE)),
        paddle.to_tensor(goldens.mask(200, 4, SIDE, SIDE)),
    )
    with context():
        total = SupervisedStep()(model, images, masks, 0)[0]
    (total * scale).backward()
    found = {}
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.numpy().astype("float64") / scale
            found[key] = [
                float(np.sqrt((gradient**2).sum())),
                float((gradient * goldens.direction(key, gradient.shape)).sum()),
            ]
    return found


def training(goldens, name, prepare=lambda model: None):
    """The recorded training steps of train.json: (losses [steps, 5], {entry: [mean, norm]} after them).

    name: "train_fs" (ten supervised steps) or "train_kd" (six of distillation from ResNet-50). prepare: a function of
    each network.
    """
    import paddle

    from kdscfnet.optim import build_optimizer
    from kdscfnet.training.steps import DistillationStep, PaddleTeacher, SupervisedStep

    recorded = goldens.train[name]
    model, step_function = goldens.network("M3_0.5"), SupervisedStep()
    prepare(model)
    if name == "train_kd":
        teacher = goldens.network("R50")
        prepare(teacher)
        step_function = DistillationStep(PaddleTeacher(teacher))
    model.train()
    optimizer = build_optimizer(model, recorded["lr"][0])
    found = []
    for step, rate in enumerate(recorded["lr"]):
        images = paddle.to_tensor(goldens.image((100 if name == "train_fs" else 300) + step, 4, SIDE, SIDE))
        masks = paddle.to_tensor(goldens.mask(200 + step, 4, SIDE, SIDE)) if name == "train_fs" else None
        total, parts = step_function(model, images, masks, recorded.get("epoch", [0] * 10)[step])
        optimizer.set_lr(rate)
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
        found.append([float(value) for value in [total] + list(parts)])
    state = model.state_dict()
    after = {}
    for key in recorded["after"]:
        value = state[key].numpy().astype("float64")
        after[key] = [float(value.mean()), float(np.sqrt((value**2).sum()))]
    return np.array(found), after


def loss_tolerance(pixels):
    """Of a loss up to 1 that sums over `pixels`: see above."""
    return 2 * np.sqrt(pixels / LANES) * 2.0**-24


def add_rounding(model, arithmetic, draw):
    """Let `model` round as another machine would: its outputs and gradients change; no two `draw` alike.

    A sum of n terms, one after the other, has the random error that its terms have where each is multiplied by
    1 + √n·2⁻²⁴·r, r uniform in [−1, 1] (√½ of that for each of two machines). Convolutions and linear layers sum over
    inputs; their gradients over outputs (of the input) and over all pixels (of the weight); BatchNorm over all pixels:
    these in LANES parts.
    Returns a function that takes it away again.
    """
    import paddle
    from paddle import nn

    paddle.seed(draw)

    def noise(shape, terms, factors=FACTORS[arithmetic]):
        return paddle.uniform(shape, min=-1.0, max=1.0) * float(np.hypot(np.sqrt(terms) * 2.0**-24, factors))

    def gradient_of(x):  # its value is 0
        return x - x.detach()

    def sums_of_inputs(layer, inputs):
        shape = layer.weight.shape
        terms = shape[0] if isinstance(layer, nn.Linear) else np.prod(shape[1:])
        return (inputs[0] * (1 + noise(inputs[0].shape, terms)),)

    def sums_of_gradients(layer, inputs, output):
        if output.stop_gradient:
            return output
        shape = layer.weight.shape
        channels = shape[1] if isinstance(layer, nn.Linear) else shape[0]
        pixels = max(1, output.size // channels // LANES)
        outputs = channels if isinstance(layer, nn.Linear) else channels // layer._groups * np.prod(shape[2:])
        weights = layer.forward(inputs[0].detach() * noise(inputs[0].shape, pixels))
        if layer.bias is not None:
            bias = layer.bias if isinstance(layer, nn.Linear) else layer.bias.reshape([1, -1, 1, 1])
            weights = weights + bias * (noise(output.shape, pixels) - 1)
        return output + gradient_of(output * noise(output.shape, outputs)) + gradient_of(weights)

    def sums_of_batches(layer, inputs, output):
        if not layer.training:
            return output
        shape = [1, -1, 1, 1]
        x, gain, bias = inputs[0], layer.weight.reshape(shape), layer.bias.reshape(shape)
        pixels, channel = max(1, x.size // x.shape[1] // LANES), [1, x.shape[1], 1, 1]
        mean = x.mean([0, 2, 3], keepdim=True)
        mean = mean / ((x - mean) ** 2).mean([0, 2, 3], keepdim=True).sqrt()
        normal = ((output - bias) / gain).detach()
        statistics = noise(channel, pixels, 0.0) * normal + noise(channel, pixels, 0.0) * mean.detach()
        changed = noise(output.shape, pixels, 0.0) * (normal * gain + bias)
        return output + gain * statistics + gradient_of(changed)

    hooks = []
    for layer in model.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Linear)):
            hooks.append(layer.register_forward_pre_hook(sums_of_inputs))
            hooks.append(layer.register_forward_post_hook(sums_of_gradients))
        elif isinstance(layer, (nn.BatchNorm2D, nn.BatchNorm)):
            hooks.append(layer.register_forward_post_hook(sums_of_batches))
    return lambda: [hook.remove() for hook in hooks]
