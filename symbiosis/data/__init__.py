"""Texts with labels: the written world, files, the hub; splits and lessons.

world       the miniature: a written world of news whose true distribution is known
characters  which characters of a text count, in any script: its identity and its words
cleaning    leftovers of HTML and of AG News, characters nobody sees
readers     rows out of files and the hub
labelled    the labelled texts of a task out of rows
task        a task's splits, which share no text
texts       a task as plain texts, for the interaction of models
lesson      the rows one Student is taught in one generation
"""
