"""Events that come by topics of Kafka become the raw lake, a batch at a time."""
