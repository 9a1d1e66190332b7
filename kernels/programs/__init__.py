"""Programs: what compiled code runs, in the order in which it is written."""
