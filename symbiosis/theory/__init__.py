"""Theory beside experiment: closed forms of recursive training, each next to its own Monte Carlo. numpy and scipy.

One model that learns from its own data, a family to a file:

    gaussian         fitted, sampled and fitted again
    regression       least squares on its own labels: replace, accumulate, accumulate and subsample
    after_synthetic  a last fit, least squares or ridge, after n synthetic generations
    next_token       a table of counts: diversity, time to collapse, an anchor of real tokens
    mad_loops        a Gaussian between real and own samples
    mixing           the best weight of real samples; golden at equal sizes
    weak_labels      answers a filter rejects, given by a weak labeller
    zipf_tail        types that sampling keeps alive
    curves, checks   what these share: named curves with the error of their simulations; input that is refused

A closed form returns a curve over generations, or several by name: arrays (G + 1,), entry 0 the start. The
`simulate_...` beside it takes the same arguments, `repeats` and `rng`, and returns the same names as (R, G + 1), one
row per independent repeat; `curves.mean_and_error` of the rows estimates the curve. Axis letters: G generations,
R repeats, V vocabulary.

Many models that learn from one another: `many_models`, K linear models; `linear_settings`, the settings of theirs
that notebook 04 shows.
"""
