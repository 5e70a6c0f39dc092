"""What is looked at: the endpoint, the pipeline, the quality of what was served, and the host."""

from grafana_foundation_sdk.builders import dashboard

from infra.dashboards.panels import Panel, Query, board, lines, number, rows

RATE = "$__rate_interval"
FAILED = '{ended!~"succeeded|NotReady"}'
SLOW = 'min(tidegate_setting{setting="release.slow_ms"}) / 1000'


def _setting(name: str) -> str:
    return f'min(tidegate_setting{{setting="{name}"}})'


def _quantile(share: float, of: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({of}_bucket[{RATE}])))"


def _promise() -> list[Panel]:
    """How fast, how well and by whom it answers now."""
    return [
        number("Answers", "Per second.", "reqps", Query(f"sum(rate(tidegate_answers_total[{RATE}]))")),
        number("p99", "Of five minutes.", "s", Query("tidegate:answer_seconds:p99_rate5m")),
        number("Slow", "Above release.slow_ms, of an hour.", "percentunit", Query("tidegate:slow:ratio_rate1h")),
        number("Bad", "Ranker raised, or a bug; of an hour.", "percentunit", Query("tidegate:bad:ratio_rate1h")),
        number("By popularity", "Of five minutes.", "percentunit", Query("tidegate:fallback:ratio_rate5m")),
        number("Processes", "That may be asked.", "short", Query("sum(tidegate_processes)")),
    ]


def _time() -> list[Panel]:
    """Where the time goes, and what it costs of the error budgets."""
    return [
        lines(
            "Seconds from arrival to answer",
            "By variant, against release.slow_ms.",
            "s",
            Query(_quantile(0.5, "tidegate_answer_seconds", "variant"), "{{variant}} p50"),
            Query(_quantile(0.95, "tidegate_answer_seconds", "variant"), "{{variant}} p95"),
            Query(_quantile(0.99, "tidegate_answer_seconds", "variant"), "{{variant}} p99"),
            Query(SLOW, "promise"),
        ),
        lines(
            "Seconds by step, p99",
            "Which step is it: features, retrieve, columns, rank, slate.",
            "s",
            Query(_quantile(0.99, "tidegate_stage_seconds", "stage"), "{{stage}}"),
        ),
        lines(
            "Burn of the error budgets",
            "1 spends a budget in just its period; 14.4 for an hour and 6 for six hours page.",
            "short",
            *(
                Query(f"min(tidegate:{of}:ratio_rate{span}) / {_setting(f'release.tolerated_{name}')}", f"{of} {span}")
                for of, name in (("slow", "slow"), ("bad", "failed"))
                for span in ("1h", "6h")
            ),
        ),
    ]


def _answers() -> list[Panel]:
    """Who answered, and who was refused."""
    return [
        lines(
            "Answers by outcome",
            "All but ranked were made by popularity, for that reason.",
            "reqps",
            Query(f"sum by (outcome) (rate(tidegate_answers_total[{RATE}]))", "{{outcome}}"),
        ),
        lines(
            "Answers by variant",
            "A canary's share.",
            "reqps",
            Query(f"sum by (variant, bundle) (rate(tidegate_answer_seconds_count[{RATE}]))", "{{variant}} {{bundle}}"),
        ),
        lines(
            "Refused",
            "By code; InternalFailure is a bug, the others are their callers'.",
            "reqps",
            Query(f"sum by (code) (rate(tidegate_refused_total[{RATE}]))", "{{code}}"),
        ),
    ]


def _behind() -> list[Panel]:
    """What answers depend on."""
    return [
        lines(
            "Age of the features", "By process.", "s", Query("tidegate_features_age_seconds", "{{variant}} {{process}}")
        ),
        lines(
            "Restarts",
            "Of an hour, by why.",
            "short",
            Query("sum by (why) (increase(tidegate_restarts_total[1h])) or vector(0)", "{{why}}"),
        ),
        lines(
            "Data capture",
            "What is lost is missing in the serving report.",
            "reqps",
            Query(f"sum by (outcome) (rate(tidegate_captured_total[{RATE}]))", "{{outcome}}"),
        ),
        rows("Loaded", "Bundles by process.", Query("tidegate_bundle_info"), "Value", "endpoint"),
        rows("Champion", "What serves, by the ledger.", Query("tidegate_champion_info"), "Value"),
    ]


def endpoint() -> dashboard.Dashboard:
    """Does it keep its promise, and if not, which step, variant or reason is it."""
    sections = [("Promise", _promise()), ("Time", _time()), ("Answers", _answers()), ("Behind it", _behind())]
    return board("endpoint", "endpoint", str(endpoint.__doc__), "now-6h", sections)


def _stages() -> list[Panel]:
    """How the last runs went."""
    return [
        lines("Seconds of the last run", "By stage.", "s", Query("tidegate_run_seconds", "{{stage}} {{mode}}")),
        lines("Rows of the last run", "By stage.", "short", Query("tidegate_run_rows", "{{stage}} {{mode}}")),
        lines(
            "Failures",
            "Runs of a day that ended badly.",
            "short",
            Query(
                f"sum by (stage, ended) (increase(tidegate_runs_total{FAILED}[1d])) > 0 or vector(0)",
                "{{stage}} {{ended}}",
            ),
        ),
        rows("Last exit", "0 is well, 75 not ready: see jobs.errors.", Query("tidegate_run_exit_code")),
        rows("Since it last went well", "Seconds.", Query("time() - tidegate_run_succeeded_timestamp_seconds")),
    ]


def _days() -> list[Panel]:
    """How new and how large the newest day is."""
    return [
        lines(
            "Since the newest day ended",
            "By table; lake.stale_hours is the bound where it is set.",
            "s",
            Query("time() - tidegate_table_day_end_timestamp_seconds and on (table) tidegate_table_daily", "{{table}}"),
            third=False,
        ),
        lines(
            "Rows of the newest day",
            "By table; a day of half the rows is an upstream that broke.",
            "short",
            Query("tidegate_table_rows and on (table) tidegate_table_daily", "{{table}}"),
            third=False,
        ),
    ]


def pipeline() -> dashboard.Dashboard:
    """Is the day in, is it whole, what failed and what waits."""
    now: list[Panel] = [
        number("Alarms", "That are raised now.", "short", Query('count(ALERTS{alertstate="firing"}) or vector(0)')),
        number(
            "Failing stages",
            "Last run ended badly.",
            "short",
            Query("count((tidegate_run_exit_code != 0) != 75) or vector(0)"),
        ),
        number("Waiting stages", "Not ready.", "short", Query("count(tidegate_run_exit_code == 75) or vector(0)")),
        number(
            "For a person", "Verdicts `promote` without an answer.", "short", Query("max(tidegate_promotions_waiting)")
        ),
        number("Releases under way", "Neither live nor back.", "short", Query("max(tidegate_release_under_way)")),
        number(
            "Champion since", "When it went live.", "s", Query("time() - max(tidegate_champion_live_timestamp_seconds)")
        ),
    ]
    alarms: list[Panel] = [
        rows("Alarms", "Raised, or about to be.", Query("ALERTS")),
        rows("Tables whose log cannot be read", "None is well.", Query("tidegate_table_readable == 0"), "Value"),
    ]
    sections = [("Now", now), ("Days", _days()), ("Stages", _stages()), ("Alarms", alarms)]
    return board("pipeline", "pipeline", str(pipeline.__doc__), "now-7d", sections)


def quality() -> dashboard.Dashboard:
    """What the daily serving reports say: traffic, skew, quality against what was judged."""

    def figure(metric: str) -> tuple[Query, ...]:
        of = f'{{metric=~"{metric}"}}'
        return (
            Query(f"tidegate_report_value{of}", "{{metric}} {{surface}}"),
            Query(f"tidegate_report_low{of}", "{{metric}} {{surface}} low"),
            Query(f"tidegate_report_high{of}", "{{metric}} {{surface}} high"),
        )

    now: list[Panel] = [
        number("Incidents", "Open by the newest report.", "short", Query("sum(tidegate_incident_open)")),
        number(
            "Served", "Impressions of its day.", "short", Query('tidegate_report_value{metric="served_impressions"}')
        ),
        number(
            "The report's day ended",
            "So long ago.",
            "s",
            Query('time() - tidegate_table_day_end_timestamp_seconds{table="serving_reports"}'),
        ),
    ]
    figures: list[Panel] = [
        lines(
            "Clicks",
            "Shown and predicted, with intervals.",
            "percentunit",
            *figure("(predicted_)?click_rate|clicks_per_impression"),
        ),
        lines("Online AUC", "With its interval.", "short", *figure("auc")),
        lines("Served traffic", "Impressions and requests.", "short", *figure("served_.*")[:1]),
        lines("By popularity", "Share of the impressions.", "percentunit", *figure("fallback_share")[:1]),
        lines("Skew", "Served against computed again.", "short", *figure("skew_.*|replay_.*")[:1]),
        lines("Value", "Clicks a request, with its interval.", "short", *figure("value")),
    ]
    tables: list[Panel] = [
        rows(
            "Incidents",
            "Causes that are open, and what is suspected first: the report.",
            Query("tidegate_incident_open"),
        ),
        rows("Alarming", "Figures beyond their bounds.", Query("tidegate_report_alarm == 1"), "Value"),
        rows("Bounds", "Above these, for sure, a figure alarms.", Query("tidegate_report_bound_high")),
        rows("All figures", "Of the newest report.", Query("tidegate_report_value")),
    ]
    sections = [("Newest report", now), ("Figures", figures), ("All", tables)]
    return board("quality", "serving quality", str(quality.__doc__), "now-30d", sections)


def host() -> dashboard.Dashboard:
    """Is it the machine: processors, memory, the disks of the lake and of the endpoint's state."""
    machine: list[Panel] = [
        lines(
            "Processors",
            "Share by what they do.",
            "percentunit",
            Query(f'avg by (mode) (rate(node_cpu_seconds_total{{mode!="idle"}}[{RATE}]))', "{{mode}}"),
            third=False,
        ),
        lines(
            "Load of a minute",
            "Against the number of processors.",
            "short",
            Query("node_load1", "load"),
            Query('count(node_cpu_seconds_total{mode="idle"})', "processors"),
            third=False,
        ),
        lines(
            "Memory",
            "To be had, of all.",
            "bytes",
            Query("node_memory_MemAvailable_bytes", "available"),
            Query("node_memory_MemTotal_bytes", "total"),
            third=False,
        ),
        lines(
            "Free disk",
            "Below a tenth is an alarm.",
            "percentunit",
            Query("node_filesystem_avail_bytes / node_filesystem_size_bytes", "{{mountpoint}}"),
            third=False,
        ),
    ]
    scraped: list[Panel] = [
        lines("Scraped", "1 where it answered.", "short", Query("up", "{{job}} {{instance}}"), third=False),
        lines(
            "Seconds of a scrape",
            "The exporter reads the lake's logs.",
            "s",
            Query("scrape_duration_seconds", "{{job}}"),
            third=False,
        ),
    ]
    return board("host", "host", str(host.__doc__), "now-6h", [("Machine", machine), ("Prometheus itself", scraped)])


BOARDS = (endpoint, pipeline, quality, host)
