"""The serving side of Dragoman: torch-free, what runs in production."""
