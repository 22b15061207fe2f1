"""Have several stacks read each other's weight files.

    for python in PYTHON...; do $python tests/weights_exchange.py write FOLDER; done
    for python in PYTHON...; do $python tests/weights_exchange.py read FOLDER; done

`write` leaves the files of all three networks (460 MB) by plain paddle.save, and ours, which must be the same bytes
on every stack. `read` reads all that is there with our reader and with plain paddle.load, bit by bit.
"""

from __future__ import annotations

import sys
from pathlib import Path

from test_weights_matrix import STACK, check, numbers, written_by_paddle

from kdscfnet.weights import networks
from kdscfnet.weights.files import write_weights


def main(what, folder):
    if what not in ("write", "read"):
        sys.exit(__doc__)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for backbone in networks.shape_tables():
        arrays = numbers(backbone)
        if what == "write":
            count += len(list(written_by_paddle(folder, backbone, arrays)))
            first, ours = (
                folder / ("first-%s-ours.pdparams" % backbone),
                folder / ("%s-%s-new.pdparams" % (STACK, backbone)),
            )
            write_weights(ours, arrays)
            if not first.exists():
                ours.rename(first)
            else:
                assert first.read_bytes() == ours.read_bytes(), "our files differ between stacks: %s" % ours
                ours.unlink()
            count += 1
            continue
        for path in sorted(folder.glob("*-%s-*.pdparams" % backbone)):
            check(path, arrays)
            count += 1
    print(
        "%s: %d files %s"
        % (STACK, count, "written" if what == "write" else "read, by our reader and by paddle.load: equal")
    )


if __name__ == "__main__":
    main(*sys.argv[1:] if len(sys.argv) == 3 else ("", "."))
