"""Parameters and what runs them: threads, claims, predictions."""
