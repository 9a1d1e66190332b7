"""Work that an engine does elsewhere: tasks, many at a time, and what is left of an earlier run."""
