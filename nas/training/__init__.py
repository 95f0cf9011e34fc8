"""The final training: images, how they are read, split and augmented."""
