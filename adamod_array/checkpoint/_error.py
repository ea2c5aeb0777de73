"""What is wrong with a file, or between it and what it is loaded into."""


class CheckpointError(ValueError):
    """A file is damaged or foreign, or does not fit what it is loaded into; the message names the leaf or field."""
