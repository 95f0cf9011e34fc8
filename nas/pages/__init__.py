"""Pages: HTML for a person in one file, of a search, of a training, of runs side by side."""
