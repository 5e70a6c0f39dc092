"""A person who asks to be forgotten: their rows go from all that is kept, and what cannot go is named."""
