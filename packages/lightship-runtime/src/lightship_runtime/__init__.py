"""What runs inside a Lightship image."""

__version__ = "0.1.0"
