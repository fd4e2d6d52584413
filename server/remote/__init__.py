"""Models from elsewhere: `python -m server fetch`, and `--models URL`."""
