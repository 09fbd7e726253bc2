"""The `kmemkit` command: lab, verify, gfp.

Each command imports what it needs when it runs, so that none waits for the others. Whatever is
wrong with the input ends as one sentence on stderr and exit status 2, never as a traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kmemkit import __version__
from kmemkit.strings import text

__all__ = ("app", "main")

app = typer.Typer(
    name="kmemkit",
    help="A small simulated Linux 6.12 memory allocator: lessons, recordings, flags.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; exit 2 with one sentence where the input is wrong."""
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"kmemkit: {error}", file=sys.stderr)
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kmemkit {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Options that every command has."""


@app.command()
def lab(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the lessons go.")] = Path(
        "kmemkit-lessons"
    ),
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser window.")
    ] = True,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Listen on this port, or not at all."),
    ] = None,
    language: Annotated[str, typer.Option(help="Language of the lessons.")] = "en",
) -> None:
    """Lay out the lessons without overwriting your work, and open JupyterLab on the first."""
    from kmemkit import lab as lab_

    shipped = lab_.lessons(language)
    if port is not None:
        lab_.check_port(port)
    laid = lab_.lay_out(folder, shipped)
    for one in laid:
        print(one)
    print(text("lab.opening", folder=folder, lesson=laid[0].name), flush=True)
    lab_.serve(folder, laid[0].name, port=port, browser=browser)


@app.command()
def verify(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Recordings, or folders of them.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Play recordings of a real kernel against the simulator; exit 1 where they differ."""
    from kmemkit.verify import main_verify

    raise typer.Exit(main_verify(paths, as_json))


@app.command()
def gfp(
    mask: Annotated[
        str, typer.Argument(metavar="MASK_OR_NAMES", help="0xcc0, or GFP_KERNEL|__GFP_ZERO.")
    ],
    kernel: Annotated[str, typer.Option(help="Kernel release whose bits are meant.")] = "6.12",
) -> None:
    """Say what a GFP mask asks for, from its hex value or from its names."""
    from kmemkit.gfp import describe

    print(describe(mask, kernel))
