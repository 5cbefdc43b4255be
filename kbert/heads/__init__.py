"""One file per head; each works on every encoder.

A head extends the encoder's graph with `keras.Model(encoder.inputs, …)`, never nests it.
"""
