//! One search, from its parameters to the answer.

use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use pipeline::ports::{SearchPage, SearchRequest};
use tokio::time::Instant;

use super::answer::SearchAnswer;
use super::question;
use crate::app::App;
use crate::error::QueryError;
use crate::handler::{answered, refuse};
use crate::parameters::{self, Given};

pub(crate) async fn respond(app: &App, headers: &HeaderMap, uri: &Uri) -> Response {
    app.search(headers, uri).await.unwrap_or_else(|error| refuse(&error))
}

impl App {
    async fn search(&self, headers: &HeaderMap, uri: &Uri) -> Result<Response, QueryError> {
        let (started, now) = (Instant::now(), self.clock.now());
        let tenant = self.admit(headers, uri, now).await?;
        let request = question::read(tenant, Given(parameters::read(uri)?), now)?;
        let page = self.search_page(&request).await?;
        tracing::info!(
            events = page.events.len(),
            duration_ms = pipeline::millis(started.elapsed()),
            "events searched"
        );
        Ok(answered(&SearchAnswer::new(&request, page)))
    }

    pub(crate) async fn search_page(&self, request: &SearchRequest) -> Result<SearchPage, QueryError> {
        let page = self.postgres.call_once("searching events", self.ports.search.search(request)).await;
        page.map_err(QueryError::History)?.ok_or(QueryError::SearchTooWide)
    }
}
