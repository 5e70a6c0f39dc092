"""The local endpoint: the SageMaker contract for an unmodified boto3, control plane and data plane on one port.

One process is the platform; every variant is processes of its own, which it begins, watches and ends:

    wire       app.py (HTTP) -> control.py (operations; payload.py, shapes.py) -> state.py (one JSON file, replaced)
    updates    control.py -> updates.py (what is loaded, where the traffic goes) -> shift.py (the rule), alarms.py
    routing    app.py -> serving.py (which variant) -> processes.py (which one, else popularity) -> wire.py, child.py
    decisions  container.py, calls.py (HTTP, SageMaker's container contract) -> decide.py (features, ranker, slate)
    time       arrival.py (since when a caller waits) -> lane.py (a ranker's thread, and what may still wait for it)
    evidence   jobs/serving/capture.py (one JSON line per answered request), metrics.py (GET /metrics), logs.py

On AWS SageMaker is the platform, and `container.py` with what it calls is ours. What is not done here (serverless and
asynchronous inference, several containers a model, autoscaling of our own processes) is refused in words, not ignored.
"""
