"""Pages that a run leaves behind."""
