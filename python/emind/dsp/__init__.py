"""Arithmetic on samples and windows, in numpy alone: no torch, no GNU Radio, no PMTs."""
