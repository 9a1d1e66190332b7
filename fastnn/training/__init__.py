"""Training: the arguments of a fit, the one loop over its epochs, what trains in it, and the plans of that."""
