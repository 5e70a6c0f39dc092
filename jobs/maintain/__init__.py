"""The lake stays small: what no kept version needs is let go, small files become one, logs get checkpoints."""
