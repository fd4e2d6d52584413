"""Programs that the rivals run. Each is started as a file, in the rival's own environment: none imports another."""
