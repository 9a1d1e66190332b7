"""A row each: activations, losses, optimizers, functions of a user; every fact about one stands in its row."""
