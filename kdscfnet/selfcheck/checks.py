"""What this device computes, against the goldens: each function yields rows of kdscfnet.selfcheck.report."""

from __future__ import annotations

import contextlib

import numpy as np

from kdscfnet.selfcheck import goldens as made
from kdscfnet.selfcheck.report import compared, holds, left_out

TITLES = {"M3_0.5": "student", "R50": "ResNet-50", "ST": "Swin-B"}


def arithmetic():
    """The arithmetic of float32 convolutions and products on Paddle's device now: "float32" or "tf32".

    TF32 is what GPUs from compute capability 8.0 on use unless told otherwise.
    """
    import paddle

    if not paddle.device.get_device().startswith("gpu"):
        return "float32"
    core = _core()
    switches = [getattr(core, "get_%s_switch" % name, lambda: True)() for name in ("cublas", "cudnn")]
    return "tf32" if any(switches) and paddle.device.cuda.get_device_capability()[0] >= 8 else "float32"


def _core():
    import paddle

    return (paddle.base if hasattr(paddle, "base") else paddle.fluid).core  # its name since Paddle 2.6


@contextlib.contextmanager
def float32_alone():
    """No TF32 in the block, where Paddle can be told so."""
    core = _core()
    names = [name for name in ("cublas", "cudnn") if hasattr(core, "set_%s_switch" % name)]
    before = [getattr(core, "get_%s_switch" % name)() for name in names]
    for name in names:
        getattr(core, "set_%s_switch" % name)(False)
    try:
        yield
    finally:
        for name, value in zip(names, before):
            getattr(core, "set_%s_switch" % name)(value)


def numbers(goldens, precision):
    """Outputs, losses, gradients and training steps. precision: of `arithmetic`."""
    for part in (outputs, loss_functions, gradients, training_steps):
        yield from part(goldens, precision)


def outputs(goldens, precision, run=None):
    """The four outputs of the three networks, every eighth row and column."""
    for kind, shape in made.FORWARDS:
        tolerance = _tolerances(precision, "forward", goldens)["%s|%dx%dx%d" % ((kind,) + shape)]
        yield compared(
            precision,
            "%s, outputs at %d×%d×%d" % ((TITLES[kind],) + shape),
            made.recorded_forward(goldens, kind, shape),
            made.forward(goldens, kind, shape, run),
            tolerance,
        )


def loss_functions(goldens, precision):
    expected, found = made.recorded_losses(goldens), made.losses(goldens)
    for name in ("dice", "dice, soft target", "boundary", "distillation"):
        keys = [key for key in expected if key == name or key.startswith(name + ", epoch")]
        yield compared(
            precision,
            name + " loss" + (" at its widths" if len(keys) > 1 else ""),
            [expected[key] for key in keys],
            [found[key] for key in keys],
            made.loss_tolerance(64 * 80),
        )


def gradients(goldens, precision, **how):
    """The student's gradients: the norm of each parameter's, and its projection on one direction."""
    yield _gradient_row(goldens, precision, made.gradients(goldens, **how))


def _gradient_row(goldens, precision, found):
    expected = goldens.gradients
    if sorted(found) != sorted(expected):
        return holds(precision, "parameters with a gradient", len(expected), len(found))
    tolerances = _tolerances(precision, "gradients", goldens)
    keys = list(expected)
    values = np.array([expected[key] for key in keys])
    # the loss's own rounding is a factor of every gradient
    own = made.loss_tolerance(made.SIDE**2) * np.abs(values)
    return compared(
        precision,
        "gradients of %d parameters" % len(keys),
        values,
        [found[key] for key in keys],
        own + np.array([[tolerances[key]] for key in keys]),
    )


def training_steps(goldens, precision):
    for name, title in (("train_fs", "supervised step"), ("train_kd", "distillation step")):
        recorded = goldens.train[name]
        losses, after = made.training(goldens, name)
        tolerances = _tolerances(precision, name, goldens)
        for step, expected in enumerate(recorded["losses"]):
            yield compared(
                precision,
                "%s %d, total and losses" % (title, step + 1),
                expected,
                losses[step],
                tolerances["losses"][step] + made.loss_tolerance(made.SIDE**2) * np.maximum(1, expected),
            )
        keys = list(recorded["after"])
        updates = {key: len(losses) * 2.0**-23 * recorded["after"][key][1] for key in keys}
        yield compared(
            precision,
            "weights after the last %s, mean and norm" % title,
            [recorded["after"][key] for key in keys],
            [after[key] for key in keys],
            [[tolerances["after"][key] + updates[key]] for key in keys],
        )


def _tolerances(precision, key, goldens):
    """SAFETY times what rounding changes, of one kind of value. float16 rounds results, too: twice TF32's."""
    factor = made.SAFETY * (2 if precision == "float16" else 1)

    def scale(value):
        if isinstance(value, dict):
            return {name: scale(item) for name, item in value.items()}
        return [factor * item for item in value] if isinstance(value, list) else factor * value

    return scale(goldens.sensitivities["tf32" if precision == "float16" else precision][key])


# Mixed precision


def mixed_precision(goldens, make_scaler=None, autocast=None):
    """--amp: outputs and gradients under auto_cast, the loss scale, and steps that overflow; on a GPU.

    make_scaler: initial scale → a GradScaler; autocast: a function that returns a context; default: Paddle's.
    """
    import paddle

    if make_scaler is None:
        if not paddle.device.get_device().startswith("gpu"):
            yield left_out("float16", "--amp", "needs a GPU")
            return
        autocast = paddle.amp.auto_cast
        make_scaler = lambda scale: paddle.amp.GradScaler(init_loss_scaling=scale)  # noqa: E731

    def run(model, images):
        with autocast():
            return model(images)

    yield from outputs(goldens, "float16", run)
    yield from gradients(goldens, "float16", context=autocast, scale=1024.0)
    yield from scaler_steps(goldens, make_scaler, autocast)


def scaler_steps(goldens, make_scaler, autocast):
    """What the scaler does to steps: a good one is taken, one that overflows is skipped and lowers the scale.

    After it the gradients are cleared, as the training does, and the next good step is taken again.
    """
    import paddle

    from kdscfnet.optim import build_optimizer
    from kdscfnet.training.steps import SupervisedStep

    model = goldens.network("M3_0.5")
    model.train()
    optimizer = build_optimizer(model, 0.002)
    scaler = make_scaler(1024.0)
    images, masks = paddle.to_tensor(goldens.image(100, 2, 64, 64)), paddle.to_tensor(goldens.mask(200, 2, 64, 64))
    watched = model.linear2.weight

    def step(factor):
        """Whether a step whose loss is multiplied by `factor` changed the weights."""
        before = watched.numpy().copy()
        with autocast():
            total, _ = SupervisedStep()(model, images, masks, 0)
        scaler.scale(total * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad()
        return not np.array_equal(before, watched.numpy())

    part = "float16"
    yield holds(part, "a good step is taken", True, step(1.0))
    yield holds(part, "the loss scale after it", 1024.0, scale_of(scaler))
    taken = [step(float("inf")) for _ in range(2)]
    yield holds(part, "two steps that overflow are skipped", [False, False], taken)
    # Paddle halves it at each or each second overflow, by version
    yield holds(part, "the loss scale is lower then", True, scale_of(scaler) in (512.0, 256.0))
    yield holds(part, "the next good step is taken", True, step(1.0))
    yield holds(part, "the weights are numbers", True, all(np.isfinite(p.numpy()).all() for p in model.parameters()))


def scale_of(scaler):
    """The loss scale of a GradScaler, whose state holds tensors, arrays or numbers by Paddle's version."""
    value = scaler.state_dict()["scale"]
    value = value.numpy() if hasattr(value, "numpy") else value
    return float(np.asarray(value).reshape(-1)[0])
