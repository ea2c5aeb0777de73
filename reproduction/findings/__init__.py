"""What the results of an experiment say of the claims, and its figures, where these are too long for its own module."""
