"""Language models: loading, scoring, training, writing."""
