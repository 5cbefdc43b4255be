"""Strings to token ids and back.

`tokenizer` wraps the Rust `tokenizers` library and reads and writes Hugging Face folders;
`in_graph` builds the same tokenizer from TensorFlow operations, for the graph that is served.
Importing this package imports neither: `kbert.text.tokenizer` needs no TensorFlow, and
`kbert.text.in_graph` does.
"""
