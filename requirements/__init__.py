"""The locked versions of all packages, and the bundle that carries them to a machine without a network."""
