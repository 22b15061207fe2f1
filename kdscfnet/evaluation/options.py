"""What a user wants of scores: the flags that `kdscfnet evaluate` and `test` share, and those of test alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreOptions:
    """scores: "all" or "mae". allow_missing, resize, threads: of kdscfnet.evaluate.

    output: the folder of scores/ and report/, and of the maps that test makes; no_report: leave the second out.
    engine, size, device: of kdscfnet.Predictor; overwrite: make maps again that are there.
    """

    output: str = "."
    scores: str = "all"
    allow_missing: bool = False
    resize: bool = False
    threads: int | None = None
    no_report: bool = False
    engine: str = "auto"
    size: tuple[int, int] | None = None
    device: str | None = None
    overwrite: bool = False
