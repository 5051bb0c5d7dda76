"""What a lesson is like: diversity, quality, complexity; numpy only."""
