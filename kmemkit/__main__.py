"""`python -m kmemkit` is the `kmemkit` command."""

from kmemkit.cli import main

main()
