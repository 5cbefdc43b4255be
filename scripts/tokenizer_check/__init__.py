"""The parts of `check_tokenizers.py`."""
