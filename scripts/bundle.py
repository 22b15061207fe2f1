"""Make a weight file in weights/ the bundled student: python scripts/bundle.py weights/NAME.pdparams

Exports it to weights/NAME.onnx and its sidecar, as `kdscfnet export` does, and writes the file's name and both digests
into weights/manifest.yaml. The title, the test size and what was measured are edited there by hand, before this; the
notes go to weights/NAME.md. Needs Paddle, paddle2onnx and PyYAML, and runs in a clone.
"""

from __future__ import annotations

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)


def main(path):
    from kdscfnet.cli import main as kdscfnet
    from kdscfnet.files import file_sha256, write_text

    name, suffix = os.path.splitext(os.path.basename(path))
    folder = os.path.join(ROOT, "weights")
    if suffix != ".pdparams" or os.path.realpath(os.path.dirname(os.path.abspath(path))) != os.path.realpath(folder):
        print("%s is not a .pdparams file in %s" % (path, folder), file=sys.stderr)
        return 2
    manifest = os.path.join(folder, "manifest.yaml")
    with open(manifest, encoding="utf-8") as file:
        before, ours, after = re.split(r"(^bundled:\n(?:  .*\n)+)", file.read(), flags=re.M)
    values = {"file": name + ".pdparams", "sha256": file_sha256(path)}
    # the name first: the sidecar holds the test size that the manifest gives to that name
    for key, value in values.items():
        ours = re.sub(r"^  %s: .*$" % key, "  %s: %s" % (key, value), ours, flags=re.M)
    write_text(manifest, before + ours + after)
    exported = os.path.join(folder, name)
    code = kdscfnet(["export", "--weights", path, "--format", "onnx", "-o", exported + ".onnx", "--overwrite"])
    if not code:
        digest = file_sha256(exported + ".onnx")
        ours = re.sub(r"^  onnx_sha256: .*$", "  onnx_sha256: " + digest, ours, flags=re.M)
        write_text(manifest, before + ours + after)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
