"""Generators of labelled IQ. Pure numpy with the random generator passed in."""
