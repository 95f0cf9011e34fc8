"""What a product takes away: the network as a file that runs without this package, or with it."""
