"""What is served in this run: `run` runs the suite once on the echo backend and once on the demo model."""

import os

DEMO = os.environ.get("SERVED") == "demo"

if DEMO:
    from demo import ARGUMENTS, BACKEND, CONTEXT_LENGTH, MODEL, TEXTS, expected, expected_completion
else:
    from echo import ARGUMENTS, BACKEND, CONTEXT_LENGTH, MODEL, TEXTS, expected, expected_completion

__all__ = ["ARGUMENTS", "BACKEND", "CONTEXT_LENGTH", "DEMO", "MODEL", "TEXTS", "expected", "expected_completion"]
