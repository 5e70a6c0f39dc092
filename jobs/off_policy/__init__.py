"""Anybody's file of logged decisions through the counterfactual estimators: in a stream, or on Spark's partitions."""
