"""What happens when models learn from what models write.

Axis letters used in every docstring: n texts, C classes, T tokens, V vocabulary, G generations, S seeds.
Importing this package is quick: torch and transformers load with the modules that need them.
"""

import atexit
import gc
import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Torch and transformers bring half a million objects that stay. Python would look through them for garbage again and
# again while they come, and once more at exit: a third of the seconds of a process that only imports them.
gc.set_threshold(50_000)  # new objects before Python looks, not 700
atexit.register(gc.freeze)  # at exit there is nothing to look for

__version__ = "0.1.0"
