"""Files on disk: what is written from images, and what is read for requests."""
