"""Training of EMind: generators, training runs, evaluation. Nothing in the module imports this package."""
