"""Language models: had, checked, asked, taught, and made fast."""
