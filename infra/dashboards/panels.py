"""How a panel looks: one place, so that four dashboards look alike."""

from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
WIDTH = 24
"""Columns of Grafana's grid."""
Panel = stat.Panel | table.Panel | timeseries.Panel


class Query(NamedTuple):
    """What is asked, and what its lines are called: `{{label}}` is the label's value."""

    expr: str
    legend: str = ""


def lines(title: str, text: str, unit: str, *queries: Query, third: bool = True) -> timeseries.Panel:
    """Lines over time; `unit` is Grafana's id of it (s, percentunit, reqps, bytes, short)."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    panel = timeseries.Panel().title(title).description(text).unit(unit).datasource(SOURCE).height(HEIGHT).min(0)
    panel.span(WIDTH // 3 if third else WIDTH // 2).legend(legend.show_legend(True))
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number))
    return panel


def number(title: str, text: str, unit: str, query: Query, columns: int = 4) -> stat.Panel:
    """The newest value, large."""
    panel = stat.Panel().title(title).description(text).unit(unit).datasource(SOURCE).height(4).span(columns)
    return panel.graph_mode(BigValueGraphMode.AREA).no_value("no data").with_target(_target(query, 0))


def rows(title: str, text: str, query: Query, *hidden: str) -> table.Panel:
    """The newest values with their labels, a series a row; without the columns `hidden`."""
    asked = _target(query, 0).instant().format(PromQueryFormat.TABLE)
    panel = table.Panel().title(title).description(text).datasource(SOURCE).height(HEIGHT).span(WIDTH // 2)
    without = dict.fromkeys(("Time", "__name__", "instance", "job", *hidden), True)
    tidy = DataTransformerConfig(id_val="organize", options={"excludeByName": without})
    return panel.with_target(asked).with_transformation(tidy)


def board(
    uid: str, title: str, text: str, since: str, sections: Sequence[tuple[str, Sequence[Panel]]]
) -> dashboard.Dashboard:
    """A dashboard of sections, with Prometheus as a choice and links to the others of Tidegate."""
    links = dashboard.DashboardLink("Tidegate").type(DashboardLinkType.DASHBOARDS).tags(["tidegate"]).as_dropdown(True)
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    found = dashboard.Dashboard(f"Tidegate: {title}").uid(f"tidegate-{uid}").description(text).tags(["tidegate"])
    found.timezone("utc").time(since, "now").refresh("30s").tooltip(DashboardCursorSync.CROSSHAIR).readonly()
    found.with_variable(source).link(links.keep_time(True).include_vars(True))
    for name, panels in sections:
        found.with_row(dashboard.Row(name))
        for panel in panels:
            found.with_panel(panel)
    return found


def _target(query: Query, number: int) -> prometheus.Dataquery:
    asked = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number))
    return asked.legend_format(query.legend) if query.legend else asked
