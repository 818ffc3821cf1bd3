"""From windows to answers: the weights file as a callable, and the thread that batches windows for it."""
