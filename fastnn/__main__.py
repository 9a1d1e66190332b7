"""`python -m fastnn`."""

from .cli import main

main()
