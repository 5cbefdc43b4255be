"""What `scripts/compare_finetuning.py` trains on, and the PyTorch loop that it compares with."""
