"""Many generated images in a folder or an archive, which goes on where it was interrupted."""
