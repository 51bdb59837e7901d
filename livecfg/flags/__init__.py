"""What does this caller get: flags, splits and experiments, compiled at load; evaluation never raises and does no I/O."""
