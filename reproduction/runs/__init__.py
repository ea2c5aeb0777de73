"""Unit runs: what is computed, one training or simulation with one seed, and the networks and data of it."""
