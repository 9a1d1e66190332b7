"""What is not collected: a module that imports PyTorch, where that is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["fastnn/exchange/torch_modules.py"]
