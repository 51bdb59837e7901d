"""Live, typed, signed configuration and feature flags, straight from Git."""
