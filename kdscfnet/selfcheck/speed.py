"""Images per second, peak memory by batch size, and the largest batch that fits."""

from __future__ import annotations

import contextlib
import time

from kdscfnet.selfcheck.report import left_out, measured

SIDE = 352
PAPER_FPS = "174 in the paper, on its GPU"


def speed(goldens, seconds):
    """Rows of the student's inference, of both training steps and of memory; each figure takes about `seconds`."""
    import paddle

    on_gpu = paddle.device.get_device().startswith("gpu")
    yield from inference(goldens, seconds, (1, 32) if on_gpu else (1,))
    yield from steps(goldens, seconds, 32 if on_gpu else 2)
    yield from memory(goldens, on_gpu)


def rate(work, images, seconds):
    """Images per second of `work`, which takes `images` images a call and returns a tensor to wait for.

    The median of five rounds, after a first call that is not counted.
    """
    began = time.perf_counter()
    work().numpy()
    once = time.perf_counter() - began
    began = time.perf_counter()
    work().numpy()
    once = min(once, time.perf_counter() - began)
    calls = max(1, int(seconds / 5 / once))
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(calls):
            result = work()
        result.numpy()
        rounds.append(images * calls / (time.perf_counter() - began))
    return sorted(rounds)[2]


def inference(goldens, seconds, batches):
    import paddle

    model = goldens.network("M3_0.5")
    model.eval()
    for batch in batches:
        images = paddle.to_tensor(goldens.image(0, batch, SIDE, SIDE))

        def work(images=images):
            with paddle.no_grad():
                return model(images)[0]

        yield measured(
            "speed",
            "student's inference at %d², batch %d, images/s" % (SIDE, batch),
            rate(work, batch, seconds),
            PAPER_FPS if batch == 1 else "–",
            "the network alone, by Paddle",
        )


def trainer(goldens, name):
    """A function (batch) → (a function that takes one training step and returns its loss)."""
    import paddle

    from kdscfnet.optim import build_optimizer
    from kdscfnet.training.steps import DistillationStep, PaddleTeacher, SupervisedStep

    model = goldens.network("M3_0.5")
    model.train()
    optimizer = build_optimizer(model, 1e-4)
    function = SupervisedStep() if name == "supervised" else DistillationStep(PaddleTeacher(goldens.network("R50")))

    def of_batch(batch):
        images, masks = paddle.to_tensor(goldens.image(0, batch, SIDE, SIDE)), paddle.ones([batch, 1, SIDE, SIDE])

        def step():
            total, _ = function(model, images, masks, 0)
            total.backward()
            optimizer.step()
            optimizer.clear_grad()
            return total

        return step

    return of_batch


def steps(goldens, seconds, batch):
    for name, note in (("supervised", ""), ("distillation", "with ResNet-50 as the teacher")):
        yield measured(
            "speed",
            "%s steps at %d², batch %d, images/s" % (name, SIDE, batch),
            rate(trainer(goldens, name)(batch), batch, seconds),
            note=note,
        )


def memory(goldens, on_gpu):
    """Peak memory of supervised steps by batch size, and the largest batch: tried on a GPU, extrapolated on a CPU."""
    from kdscfnet.child import in_child

    of_batch = trainer(goldens, "supervised") if on_gpu else None
    peaks = {}
    for batch in (8, 16, 32, 64, 128) if on_gpu else (1, 4):
        name = "peak of a supervised step at %d², batch %d, MB" % (SIDE, batch)
        try:
            if on_gpu:
                peaks[batch] = gpu_peak(of_batch(batch))
            else:  # a process of its own: the allocator keeps what this one had
                peaks[batch] = in_child("kdscfnet.selfcheck.speed:cpu_peak", batch=batch)
        except Exception as error:
            if not out_of_memory(error):
                raise
            yield left_out("memory", name, "does not fit")
            break
        if peaks[batch] is None:
            yield left_out("memory", "peak by batch size", "this system or this Paddle does not tell")
            break
        yield measured("memory", name, peaks[batch] / 2**20)
    name = "largest batch of supervised steps at %d²" % SIDE
    if on_gpu:
        yield measured("memory", name, largest_batch(lambda batch: fits(of_batch, batch)), note="tried, by eights")
    elif None not in peaks.values() and available():
        each = (peaks[4] - peaks[1]) / 3
        note = "extrapolated from the peaks to the memory that is free: beyond it a system ends the process"
        yield measured("memory", name, int((available() - peaks[1]) / each) + 1 if each > 0 else "–", note=note)


def largest_batch(fits, unit=8, limit=4096):
    """The largest multiple of `unit` up to `limit` for which fits(batch) holds, 0 for none; `fits` is monotonous."""
    good, bad = 0, None
    batch = unit
    while bad is None:
        if batch <= limit and fits(batch):
            good, batch = batch, batch * 2
        else:
            bad = min(batch, limit + unit)
    while bad - good > unit:
        middle = (good + bad) // 2 // unit * unit
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def fits(of_batch, batch):
    """Whether a step of this batch runs; the GPU's memory is free again afterwards."""
    import gc

    import paddle

    try:
        of_batch(batch)().numpy()
        return True
    except Exception as error:
        if not out_of_memory(error):
            raise
        return False
    finally:
        gc.collect()
        with contextlib.suppress(AttributeError):
            paddle.device.cuda.empty_cache()


def out_of_memory(error):
    """Whether an error of Paddle's, which has no type of its own for it in every version, is that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        word in text for word in ("out of memory", "resourceexhausted", "alloc_failed", "cuda error(2)")
    )


def gpu_peak(step):
    """Bytes of GPU memory at most in two steps, or None; batches must come in rising order."""
    import paddle

    step()
    step().numpy()
    ask = getattr(paddle.device.cuda, "max_memory_allocated", None)  # since Paddle 2.3
    return ask() if ask else None


def cpu_peak(batch):
    """Bytes of memory at most in two supervised steps of this process, which has taken none; None without Linux."""
    from kdscfnet.device import select_device
    from kdscfnet.selfcheck.goldens import Goldens

    select_device("cpu")
    step = trainer(Goldens(), "supervised")(batch)
    step()
    step().numpy()
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None


def available():
    """Bytes of memory that are free, or 0 where that is not known."""
    with contextlib.suppress(OSError):
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    return 0
