"""What tests start as two processes by paddle.distributed.launch.

train …            kdscfnet train …, and the weights of every rank at the end of each training
demo …             the same with --demo, of a handful of scenes and steps
failing WHERE      a demo in which one process fails; how it ends in every rank goes to the file rank<N>
predict …, test …  kdscfnet predict …, kdscfnet test …
slowly predict …   the same, a tenth of a second an image
gradients FOLDER   the averaged gradient of a batch of eight, four images a process
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parent / "golden"),
    str(Path(__file__).resolve().parent),
    str(Path(__file__).resolve().parent.parent),
]


def gradients(folder):
    import golden_inputs
    import numpy as np
    from golden_models import golden_model, tensor

    from kdscfnet.device import import_paddle

    paddle = import_paddle()
    paddle.set_device("cpu")
    from kdscfnet.losses import supervised_loss
    from kdscfnet.training.parallel import Parallel

    parallel = Parallel()
    model = golden_model("M3_0.5")
    model.eval()  # BatchNorm on running statistics: with a batch's own, two batches of four are not one of eight
    mine = slice(parallel.rank * 4, parallel.rank * 4 + 4)
    image, mask = golden_inputs.image(1, 8, 64, 64)[mine], golden_inputs.mask(2, 8, 64, 64)[mine]
    wrapped = parallel.wrap(model)  # must outlive the backward pass, which uses its buffers
    supervised_loss(wrapped(tensor(image)), tensor(mask), 0)[0].backward()
    found = {k: p.grad.numpy() for k, p in model.named_parameters() if p.grad is not None}
    np.savez(str(Path(folder) / ("rank%d.npz" % parallel.rank)), **found)


def train(words):
    from kdscfnet import cli
    from kdscfnet.device import import_paddle

    import_paddle()
    from kdscfnet.training.trainer import Trainer
    from kdscfnet.weights.files import save_weights

    real = Trainer.run

    def and_keep(self):
        result = real(self)
        save_weights(self.model, "%s-rank%s.pdparams" % (self.folder.folder, os.environ["PADDLE_TRAINER_ID"]))
        return result

    Trainer.run = and_keep
    return cli.main(["train"] + words)


def small_demo(words):
    from kdscfnet.data import demo as scenes
    from kdscfnet.device import import_paddle

    import_paddle(threads=1)
    from kdscfnet.training import demo

    scenes.PARTS = {name: (first, 8, 1, masks) for name, (first, _, _, masks) in scenes.PARTS.items()}
    demo.EPOCHS = 8
    return train(words + ["--demo"])


def failing_demo(where):
    import contextlib
    import io

    from kdscfnet.data import demo as scenes
    from kdscfnet.device import import_paddle
    from kdscfnet.errors import UserError

    import_paddle(threads=1)
    from kdscfnet.training import demo

    def fail(*_):
        raise UserError("it fails here")

    rank = int(os.environ["PADDLE_TRAINER_ID"])
    if where == "look" and rank == 1:
        demo._check_folder = fail
    elif where == "make":
        scenes.make_demo_set = fail  # called by rank 0 alone
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = train(["fs-m3", "--demo", "--device", "cpu", "--output", "failing"])
    Path("rank%d" % rank).write_text("%d: %s" % (code, errors.getvalue().splitlines()[-1]))  # after Paddle's remarks


def slowly(words):
    import time

    from kdscfnet.inference import outputs

    real = outputs.write

    def write(*rest):
        time.sleep(0.1)
        return real(*rest)

    outputs.write = write
    return command(words)


def command(words):
    from kdscfnet.cli import main

    return main(words)


if __name__ == "__main__":
    Path("pid-%d" % os.getpid()).touch()  # for a test that kills this process
    if sys.argv[1] == "gradients":
        gradients(sys.argv[2])
    elif sys.argv[1] == "failing":
        failing_demo(sys.argv[2])
    elif sys.argv[1] == "slowly":
        sys.exit(slowly(sys.argv[2:]))
    elif sys.argv[1] in ("predict", "test"):
        sys.exit(command(sys.argv[1:]))
    else:
        sys.exit({"train": train, "demo": small_demo}[sys.argv[1]](sys.argv[2:]))
