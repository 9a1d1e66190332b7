"""Vector functions: what an operation of a program calls, over matrices."""
