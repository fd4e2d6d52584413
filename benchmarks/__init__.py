"""Scripts that measure, and the demo."""
