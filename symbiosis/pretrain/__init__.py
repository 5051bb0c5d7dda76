"""Initial models that are pre-trained here, once per seed.

recipe:    architectures, batches and the training loop
miniature: what the miniature's models read
initial:   the registry of recipes, and the cache whose keys say what the weights depend on
"""
