"""Pictures: plots of numbers, sketches of cells and networks. They know no file and no run."""
