"""Theory beside experiment: closed forms of recursive training, numpy and scipy only. What stands where: README.md.

A closed form returns a curve over generations, or several by name: arrays (G + 1,), entry 0 the start. The
`simulate_...` beside it takes the same arguments, `repeats` and `rng`, and returns the same names as (R, G + 1), one
row per independent repeat; `checks.mean_and_error` of the rows estimates the curve. Axis letters: G generations,
R repeats, V vocabulary.

What makes no sense is refused by `checks` before anything is computed: a ValueError (what is no object of the right
kind: TypeError), one sentence that begins with the argument's name.
"""
