"""What a fit tells: its progress while it runs."""
