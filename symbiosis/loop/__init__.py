"""The loop: the science of it (README.md has the five lines of a generation)."""
