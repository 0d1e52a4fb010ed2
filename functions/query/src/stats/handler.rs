//! One request for statistics, from its path to the answer.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use event::TenantId;
use statistics::{Range, ReportRequest, StatisticsReport, TopValues};
use tokio::time::Instant;

use super::answer::{StatsAnswer, TopValuesAnswer};
use super::question::StatsQuestion;
use crate::app::App;
use crate::error::QueryError;
use crate::handler::{answered, refuse};

type CampaignInPath = Result<Path<String>, PathRejection>;

pub(crate) async fn of_campaign(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    campaign: CampaignInPath,
    uri: Uri,
) -> Response {
    respond(&app, &headers, Some(campaign), &uri).await
}

pub(crate) async fn of_part(State(app): State<Arc<App>>, headers: HeaderMap, uri: Uri) -> Response {
    respond(&app, &headers, None, &uri).await
}

async fn respond(app: &App, headers: &HeaderMap, campaign: Option<CampaignInPath>, uri: &Uri) -> Response {
    app.stats(headers, campaign, uri).await.unwrap_or_else(|error| refuse(&error))
}

impl App {
    async fn stats(
        &self,
        headers: &HeaderMap,
        campaign: Option<CampaignInPath>,
        uri: &Uri,
    ) -> Result<Response, QueryError> {
        let (started, now) = (Instant::now(), self.clock.now());
        let tenant = self.admit(headers, uri, now).await?;
        let not_text = |_| QueryError::Parameter { name: "the campaign", problem: "is not percent-encoded UTF-8" };
        let campaign = campaign.transpose().map_err(not_text)?.map(|Path(campaign)| campaign);
        let response = match StatsQuestion::read(tenant, campaign, uri, now)? {
            StatsQuestion::Report(request) => answered(&StatsAnswer::new(&request, &self.report(&request).await?)),
            StatsQuestion::TopValues { tenant, dimension, range, limit } => {
                let top = self.top_values(&tenant, dimension, range, limit).await?;
                answered(&TopValuesAnswer::new(dimension, range, &top))
            }
        };
        tracing::info!(duration_ms = pipeline::millis(started.elapsed()), "statistics read");
        Ok(response)
    }

    pub(crate) async fn report(&self, request: &ReportRequest) -> Result<StatisticsReport, QueryError> {
        let report = self.postgres.call_once("reading statistics", self.ports.statistics.report(request)).await;
        report.map_err(QueryError::Statistics)?.ok_or(QueryError::UnknownTimezone)
    }

    pub(crate) async fn top_values(
        &self,
        tenant: &TenantId,
        dimension: &'static str,
        range: Range,
        limit: u16,
    ) -> Result<TopValues, QueryError> {
        let top = self.ports.statistics.top_values(tenant, dimension, range, limit);
        let top = self.postgres.call_once("reading the values of a dimension", top).await;
        top.map_err(QueryError::Statistics)
    }
}
