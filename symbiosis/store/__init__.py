"""What a run leaves behind (README.md says what a killed process can leave)."""
