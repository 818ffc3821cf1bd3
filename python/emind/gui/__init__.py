"""What the blocks with a window show. Only ``view`` and ``form`` import Qt."""
