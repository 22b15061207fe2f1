"""The floor plan of the package: who may import whom, and how large a file and a function may be.

An arrow is an import, at the top of a module or inside a function, or a module's name in a string ("kdscfnet.x:run",
for a child process). Imports under `if TYPE_CHECKING:` are none. CONTRIBUTING.md shows the floors to people.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kdscfnet"

# Rooms (modules and packages of kdscfnet) from the ground up. A room imports from its own floor and from lower ones.
FLOORS = (
    ("errors", "text", "threads", "files", "dependencies"),
    ("images", "formats", "processing", "device", "child", "shares", "recipes", "losses", "schedule", "optim"),
    ("models",),
    ("weights",),
    ("data",),
    ("inference",),
    ("evaluation",),
    ("training",),
    ("selfcheck", "diagnosis", "doctor", "web"),
    ("commands", "cli", "__main__", "__init__"),
)
# What stays forbidden, however the floors are ordered: (room, what it never imports)
NEVER = (
    ("weights", "inference"),
    ("inference", "training"),
    ("evaluation", "training"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILE_AT_MOST = 350  # lines, blank ones and docstrings included
FUNCTION_AT_MOST = 80
TABLES = ("add_arguments",)  # functions that are a table of flags may be as long as the table


def modules_of(package):
    """{dotted name below the package: parsed file}: `cli`, `data.find`; a package's own file is `data.__init__`."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(package.rglob("*.py"))
    }


def imports_of(name, tree, package="kdscfnet"):
    """What a module imports, lazily too: a list of absolute dotted names; `from a import b` gives `a.b`."""
    found, nodes = [], [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and re.match(r"(typing\.)?TYPE_CHECKING$", _dotted(node.test)):
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = [package, *name.split(".")][: -node.level] if node.level else []
            found += [".".join([*here, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            value = getattr(node, "value", getattr(node, "s", None))  # of a string; .s in Python 3.7
            if isinstance(value, str) and re.match(r"%s(\.\w+)+(:\w+)?$" % package, value):
                found.append(value.partition(":")[0])
    return found


def _dotted(node):
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def arrows_of(modules, package="kdscfnet"):
    """{module: the modules of the package that it imports}. `import kdscfnet` alone, for its version, is no arrow."""
    arrows = {}
    for name, tree in modules.items():
        arrows[name] = set()
        for imported in imports_of(name, tree, package):
            parts = imported.split(".")
            if parts[0] != package or parts[1:] in ([], ["__version__"]):
                continue
            while parts[1:] and not {".".join(parts[1:]), ".".join([*parts[1:], "__init__"])} & set(modules):
                parts.pop()  # a name in a module, not a module
            target = ".".join(parts[1:]) or "__init__"
            arrows[name].add(target if target in modules else target + ".__init__")
        arrows[name].discard(name)
    return arrows


def circles_in(arrows):
    """The groups of modules that import one another, each as a sorted list."""

    def reach(start):
        seen, left = set(), [start]
        while left:
            for target in arrows[left.pop()] - seen:
                seen.add(target)
                left.append(target)
        return seen

    reached = {name: reach(name) for name in arrows}
    groups = {tuple(sorted(o for o in reached[n] if n in reached[o])) for n in arrows if n in reached[n]}
    return [list(group) for group in sorted(groups)]


def room_of(module):
    return module.split(".")[0]


def long_functions(tree):
    """[(name, lines)] of the functions over FUNCTION_AT_MOST lines; `def` and docstring count."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in TABLES:
            # Python 3.7 does not tell where a node ends, but where each part of it begins
            end = max(getattr(part, "end_lineno", None) or getattr(part, "lineno", 0) for part in ast.walk(node))
            if end - node.lineno + 1 > FUNCTION_AT_MOST:
                found.append((node.name, end - node.lineno + 1))
    return found


@pytest.fixture(scope="module")
def modules():
    return modules_of(PACKAGE)


@pytest.fixture(scope="module")
def arrows(modules):
    return arrows_of(modules)


def test_every_room_has_a_floor_and_every_floor_its_rooms(modules):
    assert {room_of(name) for name in modules} == set(FLOOR_OF)


def test_nothing_imports_from_a_higher_floor(arrows):
    upward = [
        "%s → %s" % (name, target)
        for name, targets in arrows.items()
        for target in sorted(targets)
        if FLOOR_OF.get(room_of(name), -1) < FLOOR_OF.get(room_of(target), len(FLOORS))
    ]
    assert upward == []


def test_no_modules_import_one_another(arrows):
    assert circles_in(arrows) == []


@pytest.mark.parametrize("room,target", NEVER)
def test_what_is_never_imported(room, target, arrows):
    assert [n for n, targets in arrows.items() if room_of(n) == room and target in map(room_of, targets)] == []


def test_only_the_top_floor_knows_argparse(modules):
    below = [name for name in modules if room_of(name) not in FLOORS[-1]]
    assert [name for name in below if "argparse" in {i.split(".")[0] for i in imports_of(name, modules[name])}] == []


def test_no_file_is_longer_than_one_idea():
    sizes = {p.relative_to(ROOT).as_posix(): len(p.read_bytes().splitlines()) for p in PACKAGE.rglob("*.py")}
    assert {path: lines for path, lines in sizes.items() if lines > FILE_AT_MOST} == {}


def test_no_function_is_longer_than_a_screen_or_two(modules):
    assert {name: found for name, found in ((n, long_functions(t)) for n, t in modules.items()) if found} == {}


def test_contributing_names_every_room():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [room for room in FLOOR_OF if not room.startswith("__")]
    assert [room for room in rooms if not re.search(r"\b%s\b" % room, text)] == []


def test_this_test_sees_what_it_should(tmp_path):
    files = {
        "__init__": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.top import Roof\n",
        "ground": "import house\nimport json\nfrom house import __version__\n",
        "top": "import argparse\nfrom house.middle.one import thing\nROOM = 'house.middle.two:run'\n",
        "middle.__init__": "",
        "middle.one": "def late():\n    from . import two\n    from ..ground import name\n    import house.top\n",
        "middle.two": "def late():\n    from house.middle import one\n"
        + "    x = 1\n" * 90
        + "# not here: 'house.top'\n",
        "front": "from house import Roof\n",
    }
    for name, text in files.items():
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    modules = modules_of(tmp_path)
    arrows = arrows_of(modules, "house")
    assert arrows == {
        "__init__": set(),
        "ground": set(),
        "top": {"middle.one", "middle.two"},
        "middle.__init__": set(),
        "middle.one": {"middle.two", "ground", "top"},
        "middle.two": {"middle.one"},
        "front": {"__init__"},
    }
    assert circles_in(arrows) == [["middle.one", "middle.two", "top"]]
    assert imports_of("top", modules["top"], "house") and long_functions(modules["middle.two"]) == [("late", 92)]
