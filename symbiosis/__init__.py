"""What happens when models learn from what models write.

Axis letters used in every docstring: n texts, C classes, T tokens, V vocabulary, G generations, S seeds.
Importing this package is quick: torch and transformers load with the modules that need them.
"""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__version__ = "0.1.0"
