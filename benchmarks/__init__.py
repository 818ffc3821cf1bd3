"""What `emind bench` runs. Figures, never tests: a machine's speed is nobody's fault."""
