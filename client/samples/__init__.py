"""Saves many generated images in a folder or an archive, and resumes after an interruption."""
