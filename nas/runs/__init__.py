"""Run folders: what a run leaves behind, how it goes on after an interruption, how it is read."""
