"""What an engine says when it cannot do its work."""


class EngineError(RuntimeError):
    """An engine is missing, cannot be reached, or ended before all images were encoded."""
