"""Recordings and data sets on disk."""
