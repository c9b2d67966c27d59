"""Many problems at once: vmap in chunks, devices, clusters."""
