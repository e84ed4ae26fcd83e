"""Readers of the data sets that models are scored on: one module a data set.

`evaluation_set` has the types that every reader makes, `benchmark` describes a published data set,
and `registry` lists them by name. `storage.evaluation_data.open_evaluation_set` is the way in.
"""
