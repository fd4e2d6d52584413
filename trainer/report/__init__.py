"""Reports: one self-contained HTML page about a run, a comparison of runs, or a sweep."""
