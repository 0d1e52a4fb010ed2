"""Panels and dashboards as they all look here."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

TAG = "forebay"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

PER_SECOND = units.CountsPerSecond
EVENTS_PER_SECOND = units.EventsPerSecond
RECORDS_PER_SECOND = units.RecordsPerSecond
REQUESTS_PER_SECOND = units.RequestsPerSecond
BYTES_PER_SECOND = units.BytesPerSecondSI
SECONDS = "s"
BYTES = units.BytesSI
COUNT = units.Short
SHARE = units.PercentUnit

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


@dataclass(frozen=True)
class Query:
    expression: str
    legend: str


@dataclass(frozen=True)
class About:
    """What a viewer is told of a panel."""

    shows: str
    healthy: str
    sick: str

    def __str__(self) -> str:
        return f"{self.shows}\n\n**Healthy:** {self.healthy}\n\n**Sick:** {self.sick}"


# What makes the panels of a dashboard.
Panel = timeseries.Panel | stat.Panel | bargauge.Panel | statetimeline.Panel


def thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    made = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


# Blue says nothing about good or bad.
PLAIN = ((None, BLUE),)


def targets(queries: list[Query], instant: bool) -> list[Builder[variants.Dataquery]]:
    made: list[Builder[variants.Dataquery]] = []
    for index, query in enumerate(queries):
        target = Dataquery().ref_id(chr(ord("A") + index)).expr(query.expression).legend_format(query.legend).datasource(SOURCE)
        made.append(target.instant() if instant else target.range())
    return made


def lines(
    title: str,
    unit: str,
    about: About,
    queries: list[Query],
    *,
    width: int = 12,
    stacked: bool = False,
    most: float | None = None,
) -> timeseries.Panel:
    """Values over time. The legend is a table with the last and the largest value."""
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(str(about))
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(9)
        .span(width)
        .legend(legend)
        .tooltip(tooltip)
        .fill_opacity(40 if stacked else 8)
        .targets(targets(queries, instant=False))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if most is not None:
        panel.max(most)
    return panel


def bars_over_time(title: str, unit: str, about: About, queries: list[Query], *, width: int = 12) -> timeseries.Panel:
    """For what happens rarely: how often it happened around each point of time. The ranges of neighbours overlap, so their bars do
    not add up."""
    panel = lines(title, unit, about, queries, width=width, stacked=True)
    return panel.draw_style(common_models.GraphDrawStyle.BARS).decimals(0)


def number(
    title: str, unit: str, about: About, query: Query, steps: tuple[tuple[float | None, str], ...] = PLAIN, *, width: int = 6
) -> stat.Panel:
    """One value, of now or of the whole time that is looked at."""
    return (
        stat.Panel()
        .title(title)
        .description(str(about))
        .datasource(SOURCE)
        .unit(unit)
        .height(5)
        .span(width)
        .thresholds(thresholds(*steps))
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .targets(targets([query], instant=True))
    )


def ranking(title: str, unit: str, about: About, query: Query, *, width: int = 12) -> bargauge.Panel:
    """The largest parts of the whole time that is looked at."""
    return (
        bargauge.Panel()
        .title(title)
        .description(str(about))
        .datasource(SOURCE)
        .unit(unit)
        .height(9)
        .span(width)
        .min(0)
        .thresholds(thresholds(*PLAIN))
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .targets(targets([query], instant=True))
    )


def states(title: str, about: About, query: Query, named: dict[int, tuple[str, str]], *, width: int = 24) -> statetimeline.Panel:
    """A state over time, by its name and colour."""
    options = {
        str(value): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(named.items())
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(str(about))
        .datasource(SOURCE)
        .unit(units.NoUnit)
        .height(8)
        .span(width)
        .mappings([models.ValueMap(options=options)])
        .thresholds(thresholds(*PLAIN))
        .show_value(common_models.VisibilityMode.NEVER)
        .line_width(0)
        .fill_opacity(70)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .targets(targets([query], instant=False))
    )


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels, under their titles."""

    name: str
    title: str
    description: str
    rows: dict[str, list[Panel]]
    # The metric whose services the viewer can choose among.
    services_of: str | None = None

    def build(self) -> models.Dashboard:
        made = (
            dashboard.Dashboard(f"Forebay: {self.title}")
            .uid(f"forebay-{self.name}")
            .description(self.description)
            .tags([TAG])
            .readonly()
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .time("now-1h", "now")
            .refresh("30s")
            .timezone("browser")
            .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
            .link(others())
        )
        if self.services_of:
            made.with_variable(service_variable(self.services_of))
        number_of_panel = 1
        for title, panels in self.rows.items():
            made.with_row(dashboard.Row(title).id(number_of_panel))
            number_of_panel += 1
            for panel in panels:
                made.with_panel(panel.id(number_of_panel))
                number_of_panel += 1
        return made.build()


def service_variable(metric: str) -> Builder[models.VariableModel]:
    return (
        dashboard.QueryVariable("service")
        .label("Service")
        .datasource(SOURCE)
        .query(f"label_values({metric}, service)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def others() -> Builder[models.DashboardLink]:
    """A menu of all dashboards of Forebay, which keeps the time that is looked at."""
    return (
        dashboard.DashboardLink("Forebay")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(False)
        .keep_time(True)
    )
