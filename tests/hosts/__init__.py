"""Trainings by Lightning, transformers and accelerate, killed and resumed: ``nox -s hosts``."""
