"""Weights of heuristics, chosen from logged pages by what each would have earned."""
