"""What Numba compiles: the loops over programs. `running` imports it only where code is not in the cache."""
