"""One readable file per architecture: a function that returns a functional `keras.Model`.

Every encoder takes `{"token_ids", "padding_mask"[, "segment_ids"]}`, each (B, T), and returns
`{"sequence": (B, T, D)}`.
"""
