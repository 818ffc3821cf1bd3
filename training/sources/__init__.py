"""Readers of the public sets' original files: each turns files into signals. docs/sources.md says what is certain."""
