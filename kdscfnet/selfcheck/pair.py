"""One of the two processes that kdscfnet.selfcheck.devices starts: its gradients go to FOLDER/rank<N>.npz."""

from __future__ import annotations

import os
import sys


def main(folder):
    import numpy as np

    from kdscfnet.device import import_paddle

    paddle = import_paddle()
    from kdscfnet.selfcheck.devices import pair_gradients
    from kdscfnet.selfcheck.goldens import Goldens
    from kdscfnet.training.parallel import Parallel, synchronise_batch_norm

    if not paddle.device.is_compiled_with_cuda():
        paddle.set_device("cpu")
    parallel = Parallel()
    on_gpu = paddle.device.get_device().startswith("gpu")

    def wrap(model):
        return parallel.wrap(synchronise_batch_norm(model) if on_gpu else model)

    found = pair_gradients(Goldens(), on_gpu, wrap, parallel.rank, parallel.world)
    np.savez(os.path.join(folder, "rank%d.npz" % parallel.rank), **found)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, whose modules have names of others
    main(sys.argv[1])
