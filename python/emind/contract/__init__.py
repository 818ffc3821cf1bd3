"""Names and shapes that every part shares. Imports neither torch, pyarrow nor GNU Radio."""
