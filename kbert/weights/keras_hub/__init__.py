"""keras-hub's backbones, tasks and presets ⇄ ours (keras-hub 0.32).

tables.py      names of variables and settings, a `Kind` for each backbone
presets.py     a backbone's or a preset folder's weights, both ways
tokenizers.py  a preset's tokenizer files, both ways
"""
