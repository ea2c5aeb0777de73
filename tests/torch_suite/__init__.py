"""What PyTorch's wheel ships to test its own optimizers with, taken over this package's: ``nox -s torch_suite``."""
