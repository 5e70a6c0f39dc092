"""The local endpoint: the SageMaker contract for an unmodified boto3, control plane and data plane on one port.

    wire       app.py (HTTP) -> control.py (operations, payload.py) -> state.py (one JSON file, replaced atomically)
    decisions  app.py -> serving.py (which variant) -> decide.py (features, ranker, slate; popularity when late)
    time       arrival.py (since when a caller waits) -> lane.py (a ranker's thread, and what may still wait for it)
    evidence   jobs/serving/capture.py (one JSON line per answered request), metrics.py (counters at GET /metrics)

`container.py` is the same decision code behind SageMaker's container contract, for AWS. Not yet: shadow variants,
canary and linear traffic shifting, rolling updates, autoscaling; each is refused in words, none is ignored.
"""
