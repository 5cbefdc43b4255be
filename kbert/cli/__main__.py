"""`python -m kbert.cli`."""

from kbert.cli import main

main()
