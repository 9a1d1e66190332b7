"""What a fit tells: history, metrics, scores, callbacks, progress; and the summary of a model."""
