"""A page that finds what stands out in pictures and in the camera's frames, in the browser: served on this machine
alone, until Ctrl-C, or written as a folder for any static host. Pictures stay in the browser.

  kdscfnet web                    serves it, and opens a browser
  kdscfnet web --build public     writes it to the folder public (docs/WEB.md says where to put it)
"""

from __future__ import annotations


def add_arguments(parser):
    parser.add_argument(
        "--weights",
        metavar="FILE",
        default="bundled",
        help="a weight file, a name of the release, or an exported network (default: the bundled student)",
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help="on this machine (default: 8000, or a free one where that is taken)"
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser, only say the address")
    parser.add_argument("--build", metavar="DIR", help="write the page to this folder, and serve nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace a page that is in that folder already")


def run(args):
    from kdscfnet import web

    return web.web_command(args)
