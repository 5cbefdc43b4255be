"""Strings to token ids and back.

`tokenizer` wraps the Rust `tokenizers` library and reads and writes Hugging Face folders, which
`files` and `sentencepiece` know; `form` tells which special tokens stand around texts; `learn`
learns a vocabulary; `show` prints what became of a text; `splits` are those that teach.
`in_graph` builds the same tokenizer from TensorFlow operations, for the graph that is served.
Importing this package imports none of them: only `kbert.text.in_graph` needs TensorFlow.
"""
