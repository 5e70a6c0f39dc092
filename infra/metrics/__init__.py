"""`python -m infra.metrics --port N`: the pipeline and its host, as Prometheus reads them.

Nothing is kept here: each scrape reads the lake's own commits and ledgers (`lake`), what became of the last runs
(`jobs.runs`) and the machine (`host`). A scrape therefore says the same after a restart as before it, and a second
exporter the same as the first. The endpoint has a page of its own, `infra/endpoint/metrics.py`.
"""
