"""What the authors' code computed, the networks it was computed with, and how far another device may be from it.

Goldens: forward.npz and train.json hold what the authors' code gave on PaddlePaddle 2.2.0, CPU, one thread.
gradients.json was recorded by this package, whose training steps equal theirs: the authors' gradients were not kept.

Tolerances are measured, by `record`: every convolution's and linear layer's input and output is multiplied by
1 + u·r, r uniform in [−1, 1], and the change of the result, to first order proportional to u, is divided by u. u = 2⁻¹⁴
is far above float32's own rounding and small enough for first order. That sensitivity, times the unit of the device's
arithmetic (UNITS), times SAFETY, is the tolerance. The draws stand for one rounding per layer and side; SAFETY is for
sums of many terms in another order, which round several times, and for draws that hit less than others.
A loss alone has no layer: it divides two sums of n terms, each with a relative error of √n·2⁻²⁴ (Higham and Mary, A new
approach to probabilistic rounding error analysis, 2019), and its tolerance is twice that.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os

import numpy as np

BACKBONES = {"M3_0.5": "mobilenetv3", "R50": "resnet50", "ST": "swin_b"}
NOISE = 2.0**-14
# relative spacing of float32; round-off of TF32 (10 bits kept) and of float16
UNITS = {"float32": 2.0**-23, "tf32": 2.0**-11, "float16": 2.0**-11}
SAFETY = {"float32": 8, "tf32": 8, "float16": 16}  # in float16 a layer's result is rounded, too
# What the draws, which hit single layers, do not see: a gradient is a sum over all pixels of terms that all but cancel
# in a bias's, and what differs chooses other maxima in the boundaries. Between one thread and two, in float32,
# gradients differ by up to 17 units of sensitivity, the losses of ten steps by up to 100 (5.8e-5), and a weight's norm
# by 3e-6 of it. In units of float32's own tolerance, with a margin of four to five; the sums of TF32 and float16 are
# float32's, too.
SUMS = {"forward": 0, "gradients": 8, "train_fs": 64, "train_kd": 64}
STORED = 2.0**-16
FORWARDS = (("M3_0.5", (1, 352, 352)), ("M3_0.5", (2, 224, 224)), ("R50", (1, 352, 352)), ("ST", (1, 384, 384)))


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
        with contextlib.suppress(FileNotFoundError):  # `record` makes two of them
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


def gradients(goldens, context=contextlib.nullcontext, scale=1.0, prepare=None):
    """The student's gradients in training mode, of four images' supervised loss: {parameter: [norm, projection]}.

    projection: on `direction`. context: of the forward pass. scale: the loss is multiplied by it, gradients divided.
    """
    import paddle

    from kdscfnet.training.steps import SupervisedStep

    model = goldens.network("M3_0.5")
    if prepare:
        prepare(model)
    model.train()
    images, masks = (
        paddle.to_tensor(goldens.image(100, 4, 224, 224)),
        paddle.to_tensor(goldens.mask(200, 4, 224, 224)),
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


def training(goldens, name, prepare=None):
    """The recorded training steps of train.json: (losses [steps, 5], {entry: [mean, norm]} after them).

    name: "train_fs" (ten supervised steps) or "train_kd" (six of distillation from ResNet-50). prepare: a function of
    the student.
    """
    import paddle

    from kdscfnet.optim import build_optimizer
    from kdscfnet.training.steps import DistillationStep, PaddleTeacher, SupervisedStep

    recorded = goldens.train[name]
    model = goldens.network("M3_0.5")
    if name == "train_fs":
        step_function = SupervisedStep()
    else:
        step_function = DistillationStep(PaddleTeacher(goldens.network("R50")))
    if prepare:
        prepare(model)
    model.train()
    optimizer = build_optimizer(model, recorded["lr"][0])
    found = []
    for step, rate in enumerate(recorded["lr"]):
        images = paddle.to_tensor(goldens.image((100 if name == "train_fs" else 300) + step, 4, 224, 224))
        masks = paddle.to_tensor(goldens.mask(200 + step, 4, 224, 224)) if name == "train_fs" else None
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


def loss_tolerance(goldens):
    """Of `losses`: see above; n is the number of pixels that are summed."""
    return 2 * np.sqrt(64 * 80) * 2.0**-24


# Recording


def add_noise(model, seed):
    """Multiply every convolution's and linear layer's input and output by 1 + NOISE·r, r uniform in [−1, 1].

    Returns a function that takes the noise away again.
    """
    import paddle
    from paddle import nn

    rng = np.random.RandomState(seed)

    def noisy(x):
        noise = rng.uniform(-NOISE, NOISE, tuple(x.shape)).astype("float32")
        return x + x * paddle.to_tensor(noise)

    hooks = []
    for layer in model.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Linear)):
            hooks.append(layer.register_forward_pre_hook(lambda layer, inputs: (noisy(inputs[0]),)))
            hooks.append(layer.register_forward_post_hook(lambda layer, inputs, output: noisy(output)))
    return lambda: [hook.remove() for hook in hooks]


def record(draws=2, say=print):
    """Write gradients.json and sensitivities.json into `folder`; a minute or two on a CPU, on one thread.

    sensitivities.json, all per unit of noise: {"forward": {network: number}, "gradients": {parameter: number},
    "train_fs", "train_kd": {"losses": [a number a step], "after": {entry: number}}}.
    """
    from kdscfnet.files import write_text

    goldens = Goldens()
    found = {"gradients": {}, "forward": {}}
    base = gradients(goldens)
    write_text(os.path.join(folder(), "gradients.json"), _lines(base))
    noisy = [gradients(goldens, prepare=lambda model, seed=seed: add_noise(model, seed)) for seed in range(draws)]
    for key, values in base.items():
        found["gradients"][key] = max(abs(a - b) for other in noisy for a, b in zip(other[key], values)) / NOISE
    say("gradients", flush=True)
    for name in ("train_fs", "train_kd"):
        recorded = goldens.train[name]
        losses_, after = training(goldens, name, lambda model: add_noise(model, 0))
        changes = np.abs(losses_ - recorded["losses"]).max(axis=1) / NOISE
        found[name] = {
            # rounding never gets less on the way, though one draw's change may
            "losses": np.maximum.accumulate(changes).tolist(),
            "after": {
                key: max(abs(a - b) for a, b in zip(values, recorded["after"][key])) / NOISE
                for key, values in after.items()
            },
        }
        say(name, found[name]["losses"], flush=True)
    for kind, shape in FORWARDS:
        model = goldens.network(kind)
        changes = []
        for seed in range(draws):
            remove = add_noise(model, seed)
            changes.append(np.abs(forward(goldens, kind, shape, model=model) - recorded_forward(goldens, kind, shape)))
            remove()
        key = "%s|%dx%dx%d" % ((kind,) + shape)
        found["forward"][key] = float(np.max(changes)) / NOISE
        say(key, found["forward"][key], flush=True)
    write_text(os.path.join(folder(), "sensitivities.json"), _lines(found))


def _lines(value):
    return json.dumps(_short(value), indent=1) + "\n"


def _short(value):
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return float("%.9g" % value)


if __name__ == "__main__":
    record()
