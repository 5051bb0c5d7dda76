"""Initial models that are pre-trained here, once per seed."""
