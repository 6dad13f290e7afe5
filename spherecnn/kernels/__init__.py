"""Array operations: arrays in, arrays out. Each has a NumPy definition and a fast body per device."""
