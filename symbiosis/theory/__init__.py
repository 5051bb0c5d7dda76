"""Theory beside experiment: closed forms of recursive training, each next to its own Monte Carlo. numpy and scipy."""
