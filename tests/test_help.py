"""`--help` of every verb, stored in tests/golden/help/: it is the manual, and no change of the code may move it unseen.

A change on purpose is stored by

    python tests/test_help.py

argparse lays help out otherwise in other versions of Python. The stored text is as in Python 3.13, the usage on one
line; `as_stored` brings what older ones print to that.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kdscfnet.cli import VERBS, main, open_verb  # noqa: E402

STORED = ROOT / "tests" / "golden" / "help"
WEIGHTS = ("list", "fetch", "verify", "convert")
TEXTS = {
    "kdscfnet": [],
    **{verb: [verb] for verb in VERBS},
    **{"weights_" + verb: ["weights", verb] for verb in WEIGHTS},
}


def help_of(words):
    """What `kdscfnet words… --help` prints on a terminal of 100 columns, as it is stored."""
    out, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            assert main([*words, "--help"]) == 0
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return as_stored(out.getvalue())


def as_stored(text):
    usage, rest = re.match(r"(usage: .*\n(?: .*\n)*)((?:.|\n)*)", text).groups()
    text = re.sub(r"\s+", " ", usage) + "\n" + rest if usage.count("-h") else text
    text = text.replace("optional arguments:", "options:")  # before 3.10
    text = re.sub(r"\[([A-Z]+) \[\1 \.\.\.\]\]", r"[\1 ...]", text)  # IMAGE* before 3.9
    # `-o OUT, --output OUT` before 3.13; help that does not fit beside stands below in both
    text = re.sub(
        r"^  (-\S+) (\S+), (--\S+ \2)( *)",
        lambda m: ("  %s, %s" % m.group(1, 3)).ljust(len(m.group())),
        text,
        flags=re.M,
    )
    return re.sub(r" +$", "", text, flags=re.M)


@pytest.mark.parametrize("name", TEXTS)
def test_help_is_as_stored(name):
    assert help_of(TEXTS[name]) == (STORED / (name + ".txt")).read_text(encoding="utf-8")


def options_of(verb):
    """The options of a verb and of what stands below it."""
    parsers = [open_verb(verb)[1]]
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif action.option_strings:
                yield parser.prog, action


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_every_default(verb):
    unsaid = []
    for program, action in options_of(verb):
        if action.nargs == 0 or action.default in (None, argparse.SUPPRESS):
            continue
        default = "%g" % action.default if isinstance(action.default, float) else str(action.default)
        said = "here" if default == "." else re.escape(default)
        if not re.search(r"(default:?.*\b|\()%s\b|\b%s \(default\)" % (said, said), action.help):
            unsaid.append("%s %s" % (program, action.option_strings[-1]))
    assert unsaid == []


def test_every_verb_is_quiet_where_asked_and_overwriting_has_one_name():
    options = {}
    for verb in VERBS:
        for program, action in options_of(verb):
            options.setdefault(program, set()).update(action.option_strings)
    assert [program for program, found in options.items() if "--quiet" not in found] == []
    assert [program for program, found in options.items() if "--force" in found and "--overwrite" not in found] == []
    assert {program.split()[1] for program, found in options.items() if "--overwrite" in found} == {
        *("predict", "test", "export", "web", "weights", "benchmark")
    }


def test_no_text_is_left_of_a_verb_that_went():
    assert {path.stem for path in STORED.iterdir()} == set(TEXTS)


def renew():
    STORED.mkdir(exist_ok=True)
    for path in STORED.glob("*.txt"):
        path.unlink()
    for name, words in TEXTS.items():
        (STORED / (name + ".txt")).write_text(help_of(words), encoding="utf-8")


if __name__ == "__main__":
    renew()
