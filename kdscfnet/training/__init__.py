"""Training: one loop, what a step does, checkpoints, the board, and the demo."""
