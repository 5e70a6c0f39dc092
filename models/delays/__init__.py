"""Delayed outcomes: what the newest rows can teach before their labels close.

    observed    what a log knows at a cut: the age of each row, whether its outcome has come, and its delay
    curve       the delay curve, learned from outcomes that came; and whether it drifts
    targets     the loss that a learner minimises, for logistic regression, trees and torch alike
    methods     seven ways to get `targets` from `observed`
    autograd    `targets` in torch

Reading "not yet" as "no" teaches too few outcomes. Dropping open rows but keeping early outcomes teaches too many.
"""
