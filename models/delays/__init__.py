"""Outcomes that are not in yet: what the newest rows can teach before their labels close.

    observed    what a log says at a cut: how old a row is, whether its outcome has come, after how long
    curve       the delay curve, from outcomes that came; and whether it drifts
    targets     what a learner minimises, for logistic regression, trees and torch alike
    methods     from the first to the third: seven ways
    autograd    the third in torch

Reading "not yet" as "no" teaches too few outcomes; leaving out what is not closed, but keeping what has come, too many.
"""
