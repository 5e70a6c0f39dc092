"""`python -m infra.dashboards`: Grafana's dashboards, written to `infra/dashboards/json/`, which is committed.

`boards` says what is looked at, `panels` how a panel looks. Grafana reads the JSON as it is: by provisioning
(infra/containers), or by hand (Dashboards, Import). The package that builds it is needed to change them, not to use
them. Every query is run against a live Prometheus by a test; no Grafana was there to draw them.
"""
