"""What a demo found, read back from where it was published: the lake, the ledger, the endpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.stack.chain import Finished
from jobs.config import Config
from jobs.store import Lake


def summary(settings: Config, finished: list[Finished], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `summary.json`: stages, verdicts with reasons, estimates, what serves, addresses and costs."""
    lake = Lake(settings.lake.root)
    verdicts = [_plain(row) for row in lake.read("promotions").to_pylist()]
    evidence = [
        {"day": row["day"], "mode": row["mode"], **json.loads(row["document"])}
        for row in lake.read("evidence").to_pylist()
    ]
    return {
        **facts,
        "stages": [f.as_dict() for f in finished],
        "verdicts": sorted(verdicts, key=lambda row: (row["day"], row["mode"])),
        "estimates": sorted(evidence, key=lambda row: (row["day"], row["mode"])),
        "serving_report": [_plain(row) for row in lake.read("serving_reports").to_pylist()],
        "readouts": [_plain(row) for row in lake.read("readouts").to_pylist()],
        "endpoint": endpoint(settings),
    }


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
        variants = setup["ProductionVariants"]
        models = [client.describe_model(ModelName=v["ModelName"]) for v in variants]
    except ClientError as error:
        return {"name": settings.endpoint.name, "status": "none", "reason": str(error)}
    return {
        "name": found["EndpointName"],
        "status": found["EndpointStatus"],
        "variants": [
            {
                "variant": variant["VariantName"],
                "model": model["ModelName"],
                "bundle": _bundle(model),
                "bundle_sha256": _sha256(model),
            }
            for variant, model in zip(variants, models, strict=True)
        ],
    }


def _bundle(model: Mapping[str, Any]) -> str:
    return str(model.get("PrimaryContainer", {}).get("ModelDataUrl", ""))


def _sha256(model: Mapping[str, Any]) -> str:
    """Of the manifest that lies where the endpoint loads from: computed anew, not copied from the ledger."""
    import hashlib

    manifest = Path(_bundle(model).removeprefix("file://")) / "manifest.json"
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""


def show(found: Mapping[str, Any], console: Console) -> None:
    """The closing table, for a person."""
    for evidence in found["estimates"]:
        console.print(_estimates(evidence))
    console.print(_verdicts(found))
    console.print(_costs(found))


def _estimates(evidence: Mapping[str, Any]) -> Table:
    table = Table(title=f"{evidence['mode']} {evidence['day']}", title_justify="left")
    for name in ("", "challenger", "champion", "difference"):
        table.add_column(name)
    return table


def _verdicts(found: Mapping[str, Any]) -> Table:
    table = Table(title="Verdicts", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for row in found["verdicts"]:
        answer = f"approved by {row['approved_by']}, deployed" if row["deployed_at"] else "nothing deployed"
        table.add_row(f"{row['candidate_id']}", f"[bold]{row['verdict']}[/] ({answer})")
        for reason in row["reasons"]:
            table.add_row("", reason)
    return table


def _costs(found: Mapping[str, Any]) -> Table:
    table = Table(title="Where to look", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    serves = found["endpoint"]
    for variant in serves.get("variants", []):
        table.add_row("endpoint serves", f"{variant['model']} (bundle sha256 {variant['bundle_sha256'][:12]}…)")
    if not serves.get("variants"):
        table.add_row("endpoint serves", "no model yet")
    for name, where in {**found["urls"], **found["paths"]}.items():
        table.add_row(name, where)
    table.add_row("peak memory", f"{found['peak_memory_mib']:,.0f} MiB, the whole process tree")
    table.add_row("time", f"{found['seconds']:.0f} s")
    return table


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if hasattr(value, "isoformat") else value for key, value in row.items()}
