"""The numbers of the rule by which a precision is chosen, which its plan and its measurement share. Imports nothing.

They are apart from :mod:`dode.benchmark.precisions`, which reads configurations: what is edited there shall make no
measurement again, nor all that was made in the precision which it chose.
"""

#: Kinds of cells, of which each has a choice of its own.
PLAIN, FITTED, FINE = "plain", "fitted", "fine"
SHARE = 0.1  # of what a seed's noise does to a score, by which a cheaper precision may move it
LOADS = 3  # jobs of a cell that load, and compile, its network: teacher, fit and samples
NEARER = 0.1  # of a plain solver's distance to the fine solution: how near a fitted one comes
