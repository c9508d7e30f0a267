"""``python -m stepladder`` is the `stepladder` command."""

from stepladder.cli import main

main()
