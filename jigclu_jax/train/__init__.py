"""Training: state, schedule, optimizer, step, checkpoints and the loop."""
