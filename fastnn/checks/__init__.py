"""Arguments and their errors: imports nothing of the package."""
