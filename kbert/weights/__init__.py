"""Other people's weight names ⇄ ours, as tables that run both ways, and the files they come in."""
