"""The commands `sofa-registry config …`."""
