"""What runs programs: compiled functions that Python calls."""
