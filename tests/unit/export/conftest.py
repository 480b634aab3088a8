"""Skips the torch side where torch is not installed; shares the fixtures of tests/export."""

import importlib.util

from tests.export.conftest import checkpoint_folder, corpus, one_thread

__all__ = ["checkpoint_folder", "corpus", "one_thread"]

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]
