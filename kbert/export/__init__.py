"""What a trained model is exported to: a SavedModel for TF Serving."""
