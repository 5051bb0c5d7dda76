"""Texts with labels: the written world, files, the hub; splits and lessons.

world    the miniature: a written world of news whose true distribution is known
readers  rows out of files and the hub, and the labelled texts of a task out of rows
task     a task's splits, which share no text
texts    a task as plain texts, for the interaction of models
corpora  what small models are pre-trained on
lesson   the rows one Student is taught in one generation
"""
