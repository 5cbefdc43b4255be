"""Fine-tuning with `model.fit`: optimizer, schedules, distribution strategies, and the run."""
