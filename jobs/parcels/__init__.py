"""Rows between workers as whole Arrow streams: what one task has for one bucket, in one binary value."""
