"""The CPU: what it can do, and vectors of its lanes."""
