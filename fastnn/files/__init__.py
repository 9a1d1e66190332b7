"""Files: what a model is in one."""
