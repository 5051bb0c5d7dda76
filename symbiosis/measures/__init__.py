"""What a lesson is like: diversity, quality, complexity; numpy only.

diversity  formulas of variety: words, frames, known sources, embeddings, several models
density    of hidden states: directions used, activity shared
lessons    which of them are measured on a lesson, at which size, and the null band of real text
"""
