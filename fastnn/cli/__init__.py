"""The command line: `fastnn` and `python -m fastnn`."""
