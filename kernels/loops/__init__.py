"""What Numba compiles: the loops over programs. Only `running.entry` imports it, where code is not in the cache yet."""
