"""The model families that export knows."""
