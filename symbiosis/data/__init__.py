"""Texts with labels: the written world, files, the hub; splits and lessons."""
