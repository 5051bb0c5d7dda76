"""The loop: methods, teaching, feedback, influence, mixing, runs."""
