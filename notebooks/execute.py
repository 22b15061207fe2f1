"""Run a notebook from top to bottom and store it with its outputs.

python notebooks/execute.py [NOTEBOOK] [-o OUT] [--folder DIR]

Needs nbclient and ipykernel (requirements/test.txt). The kernel is the Python that runs this. It works in DIR (default:
the notebook's folder). Before outputs are stored, progress bars shrink to their last state, and the folders of this
machine to short names. By default OUT is NOTEBOOK itself. The exit code is 1 where a cell fails.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).resolve().parent / "kdscfnet_aistudio.ipynb"
# of terminals: colours, and the cursor that a progress bar moves
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def execute(notebook, folder, timeout=None):
    """Run all cells of a notebook (nbformat's object) in `folder`; outputs are put into it. Raises CellExecutionError."""
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return notebook


def short_names(folder):
    """What stands for the folders of this machine in stored outputs: [(folder, name)], longest first."""
    names = [(str(Path(folder).resolve()), "."), (sys.prefix, "<python>"), (str(Path.home()), "~")]
    return sorted(names, key=lambda pair: -len(pair[0]))


def tidy(notebook, names=()):
    """Make outputs small and the same on every machine: streams in one piece, bars in their last state, short paths."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        outputs = []
        for output in cell.get("outputs", []):
            if (
                outputs
                and output.output_type == "stream" == outputs[-1].output_type
                and output.name == outputs[-1].name
            ):
                outputs[-1].text += output.text
            else:
                outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":
                output.text = plain(output.text, names)
        if "outputs" in cell:
            cell.outputs = [output for output in outputs if output.output_type != "stream" or output.text]
    return notebook


def plain(text, names=()):
    """What is left to see of a text for a terminal."""
    lines = []
    for line in _ESCAPES.sub("", text).split("\n"):
        # each return starts the line again; a bar that is cleared leaves spaces, and a line may follow in its place
        pieces = [piece.rstrip() for piece in line.split("\r")]
        pieces = [piece for piece in pieces if piece]
        lines.append(pieces[-1] if pieces else "")
    text = "\n".join(lines)
    for folder, name in names:
        text = text.replace(folder, name)
    return text


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", nargs="?", default=str(NOTEBOOK))
    parser.add_argument("-o", "--output")
    parser.add_argument("--folder")
    args = parser.parse_args(words)
    notebook = nbformat.read(args.notebook, as_version=4)
    folder = args.folder or os.path.dirname(os.path.abspath(args.notebook))
    code = 0
    try:
        execute(notebook, folder)
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        code = 1
    root = Path(folder).resolve()
    root = root.parent if root.name == "notebooks" else root
    nbformat.write(tidy(notebook, short_names(root)), args.output or args.notebook)
    return code


if __name__ == "__main__":
    sys.exit(main())
