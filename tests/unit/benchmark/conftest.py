"""The benchmarks compare with PyTorch; their tests need it too."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_command.py"]
