"""Programs that the rivals run: standalone files, each started in the rival's own environment."""
