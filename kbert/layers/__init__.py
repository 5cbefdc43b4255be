"""Everything with weights: one `keras.Layer` each, written in `keras.ops`.

Letters, in every docstring below this folder: B batch, T query length, S key length, H heads,
K head width, D model width, F inner width, V vocabulary.
"""
