"""A page that finds what stands out in pictures and in the camera's frames, in the browser: served on this machine
alone, until Ctrl-C, or written as a folder for any static host. Pictures stay in the browser.

  kdscfnet web                    serves it, and opens a browser
  kdscfnet web --build public     writes it to the folder public (docs/WEB.md says where to put it)
"""

from __future__ import annotations

from kdscfnet.commands.flags import add_flags


def add_arguments(parser):
    texts = {
        "--weights FILE": "a weight file, a name of the release, or an exported network (default: the bundled student)",
        "--port N": "on this machine (default: 8000, or a free one where that is taken)",
        "--no-browser": "open no browser, only say the address",
        "--build DIR": "write the page to this folder, and serve nothing",
        "--overwrite": "replace a page that is in that folder already",
    }
    add_flags(parser, texts, weights={"default": "bundled"}, port={"type": int})


def run(args):
    from kdscfnet import web

    return web.web_command(args)
