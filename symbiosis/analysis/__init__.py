"""What many runs say together. Long tables in, tables, verdicts and figures out; nothing here trains a model."""
