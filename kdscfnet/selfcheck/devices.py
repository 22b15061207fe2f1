"""What goes wrong on one kind of machine only: several GPUs, several processes, CUDA and forked workers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile

import numpy as np

from kdscfnet.selfcheck import goldens as made
from kdscfnet.selfcheck.report import compared, holds, left_out


def machine(goldens):
    """All rows of this module. Each check that cannot run here is left out with its reason."""
    import paddle

    gpus = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    on_gpu = paddle.device.get_device().startswith("gpu")
    yield from conversion(goldens)
    yield from forked_loader()
    if on_gpu:
        yield from pinned_memory(goldens, lambda array: paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()))
    else:
        yield left_out("devices", "pinned memory", "needs a GPU")
    yield from several_processes(goldens, on_gpu, gpus)
    if gpus > 1 and on_gpu:
        yield from two_predictors(["gpu:0", "gpu:1"])
    else:
        yield left_out("devices", "two Predictors on two GPUs", "needs two GPUs")


def conversion(goldens):
    """BatchNorm to SyncBatchNorm: every layer, the same entries, and weights that an ordinary network loads."""
    from kdscfnet.models.scfnet import SCFNet
    from kdscfnet.training.parallel import synchronise_batch_norm

    for kind in ("M3_0.5", "R50"):
        model = goldens.network(kind)
        before = {key: value.numpy() for key, value in model.state_dict().items()}
        synchronise_batch_norm(model)
        kinds = [type(layer).__name__ for layer in model.sublayers()]
        left = sum(name in ("BatchNorm", "BatchNorm2D") for name in kinds)
        yield holds("devices", "%s: BatchNorm layers that stay unsynchronised" % made.BACKBONES[kind], 0, left)
        plain = SCFNet(made.BACKBONES[kind])
        plain.set_state_dict(model.state_dict())
        after = {key: value.numpy() for key, value in plain.state_dict().items()}
        same = list(before) == list(after) and all((before[key] == after[key]).all() for key in before)
        yield holds("devices", "%s: an ordinary network takes its weights" % made.BACKBONES[kind], True, same)


def forked_loader(workers=2):
    """The loader's forked workers, after this process has computed on its device: the bytes of the loader without."""
    import cv2
    import paddle

    from kdscfnet.data.batches import BatchPlan, TrainingSamples, batches

    paddle.zeros([1]).numpy()  # CUDA is initialised from here on
    with tempfile.TemporaryDirectory(prefix="kdscfnet-") as folder:
        rng = np.random.RandomState(0)
        paths = [os.path.join(folder, "%d.png" % i) for i in range(8)]
        for path in paths:
            cv2.imwrite(path, rng.randint(0, 256, (48, 64, 3), np.uint8))

        def load(count):
            found = []
            with contextlib.closing(
                batches(TrainingSamples(paths, paths, 0), BatchPlan(8, 4, (32,), 2, 0), count)
            ) as loader:
                for images, targets, step, _ in loader:
                    found.append((step, np.asarray(images).tobytes(), np.asarray(targets).tobytes()))
            return found

        yield holds("devices", "%d forked workers load the same batches" % workers, True, load(0) == load(workers))


def pinned_memory(goldens, pin):
    """A batch in pinned memory, where Paddle's loader may put one: the same bytes, and the same from the network.

    pin: array → tensor.
    """
    import paddle

    batch = goldens.image(0, 2, 64, 64)
    pinned = pin(batch)
    yield holds("devices", "a batch in pinned memory keeps its bytes", True, bool((pinned.numpy() == batch).all()))
    model = goldens.network("M3_0.5")
    model.eval()
    with paddle.no_grad():
        outputs = [model(images)[0].numpy() for images in (paddle.to_tensor(batch), pinned)]
    yield holds("devices", "the network takes it", True, bool((outputs[0] == outputs[1]).all()))


def several_processes(goldens, on_gpu, gpus):
    """Gradients of two processes, two images each, against one process's four; on GPUs with SyncBatchNorm."""
    import paddle

    name = "gradients by two processes" + (", synchronised BatchNorm" if on_gpu else "")
    if on_gpu and gpus < 2:
        yield left_out("devices", name, "needs two GPUs")
        return
    if not on_gpu and tuple(map(int, paddle.__version__.split(".")[:2])) < (2, 4):
        yield left_out("devices", name, "this Paddle starts no CPU processes that exchange gradients")
        return
    from kdscfnet.selfcheck import checks

    with tempfile.TemporaryDirectory(prefix="kdscfnet-") as folder:
        words = ["--nproc_per_node", "2", "--log_dir", os.path.join(folder, "logs")]
        words += ["--devices", "0,1"] if on_gpu else ["--backend", "gloo"]
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pair.py")
        command = [sys.executable, "-m", "paddle.distributed.launch"] + words + [program, folder]
        done = subprocess.run(
            command,
            env=dict(os.environ, PYTHONPATH=path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        found = [_read(os.path.join(folder, "rank%d.npz" % rank)) for rank in (0, 1)]
        if done.returncode or None in found:
            last = done.stdout.decode(errors="replace").strip().splitlines()
            yield holds("devices", name, "two processes end well", "exit code %d" % done.returncode, last[-1][:120])
            return
    same = sorted(found[0]) == sorted(found[1]) and all((found[0][key] == found[1][key]).all() for key in found[0])
    yield holds("devices", "both processes hold the same gradients", True, same)
    alone = pair_gradients(goldens, on_gpu)
    precision = checks.arithmetic()
    rounded = pair_gradients(goldens, on_gpu, lambda model: (made.add_rounding(model, precision, 0), model)[1])
    tolerances = {key: made.SAFETY * np.abs(rounded[key] - value).max() for key, value in alone.items()}
    yield compared(
        "devices",
        name,
        np.concatenate([alone[key].ravel() for key in alone]),
        np.concatenate([found[0][key].ravel() for key in alone]),
        np.concatenate([np.full(alone[key].size, tolerances[key]) for key in alone]),
    )


def _read(path):
    if not os.path.exists(path):
        return None
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def pair_gradients(goldens, training, wrap=lambda model: model, rank=0, world=1):
    """{parameter: gradient} of the student, of this rank's share of four images.

    training: by a batch's own statistics. Without SyncBatchNorm two batches of two are not one of four then.
    """
    import paddle

    from kdscfnet.losses import supervised_loss

    model = goldens.network("M3_0.5")
    model.train() if training else model.eval()
    wrapped = wrap(model)  # must outlive the backward pass, which uses its buffers
    mine = slice(rank * 4 // world, (rank + 1) * 4 // world)
    images, masks = goldens.image(1, 4, 64, 64)[mine], goldens.mask(2, 4, 64, 64)[mine]
    supervised_loss(wrapped(paddle.to_tensor(images)), paddle.to_tensor(masks), 0)[0].backward()
    return {key: p.grad.numpy() for key, p in model.named_parameters() if p.grad is not None}


def two_predictors(devices):
    """Two Predictors of one process on two devices, by turns: each gives the maps that it gives alone."""
    from kdscfnet.inference.predictor import Predictor
    from kdscfnet.weights.weightfile import bundled

    path = bundled().path
    image = np.random.RandomState(0).randint(0, 256, (60, 80, 3)).astype(np.uint8)
    one = Predictor(path, engine="paddle", device=devices[0])
    alone = one(image)
    other = Predictor(path, engine="paddle", device=devices[1])
    maps = [other(image), one(image), other(image)]
    for number, saliency in enumerate(maps):
        name = "map %d of Predictors on %s and %s by turns" % ((number + 1,) + tuple(devices))
        yield compared("devices", name, alone.astype(int), saliency.astype(int), 1, "grey levels")
