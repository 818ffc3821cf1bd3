"""The models, in torch and nothing else. Each model is one file, read from top to bottom."""
