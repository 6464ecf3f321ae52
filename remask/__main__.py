"""`python -m remask`."""

from remask.cli import main

main()
