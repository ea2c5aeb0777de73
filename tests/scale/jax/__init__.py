"""JAX's arrays on meshes: of 8 devices in one process, and of 4 in each of two."""
