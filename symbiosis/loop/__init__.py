"""The loop: the science of it (README.md has the five lines of a generation).

runs       a run: lesson, training, evaluation, hard texts, the Generator's update, each a stage that resumes
state      what passes from one step to the next
methods    which rows a lesson has, a short function per method; steps C and D
teaching   how the Generator writes, explains, labels, and learns to teach
feedback   signals: how hard is a text for this Student?
influence  what one text would do to the dev loss
mixing     row numbers and shares of real rows and earlier lessons
"""
