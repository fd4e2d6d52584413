"""Programs that the rivals run. Each starts as a file in the rival's own environment, and imports no other."""
