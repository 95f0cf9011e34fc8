"""From features of an untrained cell to a predicted accuracy with an interval."""
