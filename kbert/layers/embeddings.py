"""Token embeddings: Keras's own reversible embedding, under the name kbert's models use.

`TokenEmbedding(V, D)(token_ids)` gives (B, T, D); `…(sequence, reverse=True)` multiplies by the
transposed table and gives (B, T, V), as the masked-LM heads do (Press and Wolf 2016).
"""

import keras

TokenEmbedding = keras.layers.ReversibleEmbedding
