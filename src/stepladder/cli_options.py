"""Arguments and options that several verbs take."""

from __future__ import annotations

from typing import Annotated

import typer

File = Annotated[str, typer.Argument(metavar="FILE", help="The curriculum.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override, as in stages.1.args.max_tiles=3.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's directory (`output_dir`), or its curriculum.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NoFiles = Annotated[bool, typer.Option("--no-files", help="Plan for another machine: look for no files.")]
