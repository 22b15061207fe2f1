"""What tests start as two processes by paddle.distributed.launch.

train …            kdscfnet train …, and the weights of every rank at the end
gradients FOLDER   the averaged gradient of a batch of eight, four images a process
"""

from __future__ import annotations

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

    from kdscfnet.compat import import_paddle

    paddle = import_paddle()
    paddle.set_device("cpu")
    from kdscfnet.engine.parallel import Parallel
    from kdscfnet.losses import supervised_loss

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
    import os

    from kdscfnet import cli
    from kdscfnet.engine import session, trainer
    from kdscfnet.pretrained.safe_load import save_weights

    real = trainer.train

    def and_keep(model, *rest, **options):
        result = real(model, *rest, **options)
        save_weights(
            model, "%s-rank%s.pdparams" % (words[words.index("--output") + 1], os.environ["PADDLE_TRAINER_ID"])
        )
        return result

    trainer.train = and_keep
    assert session
    return cli.main(["train"] + words)


if __name__ == "__main__":
    if sys.argv[1] == "gradients":
        gradients(sys.argv[2])
    else:
        sys.exit(train(sys.argv[2:]))
