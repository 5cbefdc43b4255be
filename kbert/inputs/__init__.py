"""Token ids → tensors: records read from files, packed with special tokens, padded in batches."""
