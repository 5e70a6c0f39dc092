"""What a demo found, read back from where it was published: the lake, the ledger, the endpoint."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.endpoint.models import source_of
from infra.stack.chain import Finished
from jobs.config import Config, EndpointSettings
from jobs.deployments import ledger
from jobs.lake.store import Lake

VALUE = "clicks/request"
LABELS = {"auc": "AUC", "ndcg_at_10": "NDCG@10", "log_loss": "log-loss"}
SIDES = ("champion", "challenger", "difference")
MEANS = {"p_click": "p(click), mean", "p_conversion": "p(conversion), mean"}
"""Of the test rows as they were shown: what both sides predict, and what is so in a world that is known."""
ANOTHER_WORLD = "the logs are not of the simulated world that the settings describe"


def summary(settings: Config, finished: list[Finished], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `summary.json`: stages, verdicts with reasons, estimates, what serves, addresses and costs."""
    lake = Lake(settings.lake.root)
    live = {row["bundle_sha256"]: row for row in ledger.deployed(lake)}
    verdicts = {row["mode"]: _plain(row | _answer(live, row)) for row in lake.read("promotions").to_pylist()}
    champion = ledger.champion(lake, settings.endpoint.name)
    evidence = {
        row["mode"]: {"day": row["day"], **json.loads(row["document"])} for row in lake.read("evidence").to_pylist()
    }
    return {
        **facts,
        "stages": [f.as_dict() for f in finished],
        "verdict": verdicts,
        "estimates": {mode: _estimated(settings, document) for mode, document in evidence.items()},
        "serving_report": [_plain(row) for row in lake.read("serving_reports").to_pylist()],
        "readouts": [_plain(row) for row in lake.read("readouts").to_pylist()],
        "champion": None if champion is None else _plain(champion),
        "endpoint": endpoint(settings),
    }


def _answer(live: Mapping[str, ledger.Row], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Who had the bundle of a verdict put live, and when; None where nobody did."""
    step = live.get(verdict["bundle_sha256"])
    return {"approved_by": step and step["by"], "deployed_at": step and step["at"]}


def _estimated(settings: Config, document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a document that the tables show; a truth that should be known and is not says why."""
    found = {key: document.get(key) for key in ("day", "champion", "challenger", "comparison", "value", "truth")}
    names = {"p_click": "predicted", "p_conversion": "predicted_conversion"}
    found["predicted"] = {
        side: {name: document["calibration"][side].get(key) for name, key in names.items()} for side in SIDES[:2]
    }
    if found["truth"] is None and settings.source.name == "simulated":
        found["truth"] = {"refused": ANOTHER_WORLD}
    return found


def endpoint(settings: Config) -> dict[str, Any]:
    """What the endpoint says it serves, through boto3; `status` is `none` where nothing was ever deployed."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client(
        "sagemaker",
        endpoint_url=settings.endpoint.url,
        region_name=settings.endpoint.region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    try:
        found = client.describe_endpoint(EndpointName=settings.endpoint.name)
        setup = client.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
        setups = setup["ProductionVariants"]
        variants = [(v["VariantName"], client.describe_model(ModelName=v["ModelName"])) for v in setups]
    except ClientError as error:
        return {"name": settings.endpoint.name, "status": "none", "variants": [], "reason": str(error)}
    return {
        "name": found["EndpointName"],
        "status": found["EndpointStatus"],
        "variants": [_variant(name, model["PrimaryContainer"], settings.endpoint) for name, model in variants],
    }


def _variant(name: str, container: Mapping[str, Any], settings: EndpointSettings) -> dict[str, str]:
    """The sha256 is computed anew from the manifest that lies where the endpoint loads from."""
    url = container["ModelDataUrl"]
    with source_of(settings).folder(url) as folder:
        manifest = folder / "manifest.json"
        content = manifest.read_bytes() if manifest.is_file() else b""
    return {
        "variant": name,
        "candidate_id": str(json.loads(content)["candidate_id"]) if content else "",
        "bundle": url.removeprefix("file://"),
        "bundle_sha256": hashlib.sha256(content).hexdigest() if content else "",
    }


def show(found: Mapping[str, Any], console: Console) -> None:
    """The closing tables, for a person."""
    for mode in sorted(found["estimates"], key=lambda m: str(found["estimates"][m]["day"])):
        console.print(f"\n[bold]{mode} {found['estimates'][mode]['day']}[/]")
        console.print(_estimates(found["estimates"][mode]))
        console.print(_verdict(found["verdict"].get(mode)), soft_wrap=True, markup=False)
    console.print("\n[bold]where to look[/]")
    console.print(_closing(found))


def _estimates(evidence: Mapping[str, Any]) -> Table:
    """Champion and challenger with intervals, the true value beside the estimated one."""
    names = {side: evidence[side]["candidate_id"] for side in ("champion", "challenger")}
    table = Table()
    table.add_column("")
    for side in SIDES:
        table.add_column(f"{side}\n{names.get(side, 'challenger - champion')}")
    for metric, label in LABELS.items():
        _add(table, label, evidence["comparison"].get(metric, {}))
    _add(table, f"{VALUE}, estimated", evidence["value"])
    truth = evidence.get("truth") or {}
    if "refused" in truth:
        table.add_row(f"{VALUE}, true", f"unknown: {truth['refused']}")
    elif truth:
        signs = {"difference": "+"}
        table.add_row(f"{VALUE}, true", *(f"{truth[side]:{signs.get(side, '')}.4f}" for side in SIDES))
    for name, label in MEANS.items():
        predicted = [evidence["predicted"][side][name] for side in SIDES[:2]]
        if truth.get(name) is not None and None not in predicted:
            before, after = predicted
            table.add_row(label, f"{before:.5f}", f"{after:.5f}", f"{after - before:+.5f}")
            table.add_row(f"{label}, true", *[f"{truth[name]:.5f}"] * 2)
    return table


def _add(table: Table, label: str, sides: Mapping[str, Mapping[str, Any]]) -> None:
    """One row; a refusal is said once, instead of numbers."""
    refused = [found["refused"] for found in sides.values() if "refused" in found]
    if refused and all("refused" in sides.get(side, {}) for side in SIDES):
        table.add_row(label, f"refused: {refused[0]}")
        return
    table.add_row(label, *(_figure(sides.get(side, {}), side == "difference") for side in SIDES))


def _figure(found: Mapping[str, Any], signed: bool) -> str:
    if "value" not in found:
        return f"refused: {found.get('refused', 'not estimated')}"
    sign = "+" if signed else ""
    return f"{found['value']:{sign}.4f} [{found['low']:{sign}.4f}, {found['high']:{sign}.4f}]"


def _verdict(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "no verdict"
    answer = f"approved by {row['approved_by']}, deployed" if row["deployed_at"] else "nothing deployed"
    return "\n".join([f"verdict: {row['verdict']} ({answer})", *(f"  {reason}" for reason in row["reasons"])])


def _closing(found: Mapping[str, Any]) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for variant in found["endpoint"]["variants"]:
        serves = f"{variant['candidate_id']}, bundle sha256 {variant['bundle_sha256'][:16]}…"
        table.add_row(f"endpoint {found['endpoint']['name']}", f"{found['endpoint']['status']}: {serves}")
    if not found["endpoint"]["variants"]:
        table.add_row(f"endpoint {found['endpoint']['name']}", "serves no model: none was promoted")
    for name, where in (*found["urls"].items(), *found["paths"].items()):
        table.add_row(name, where)
    table.add_row("peak memory", f"{found['peak_memory_mib']:,.0f} MiB, the whole process tree")
    table.add_row("time", f"{found['seconds']:.0f} s")
    return table


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
