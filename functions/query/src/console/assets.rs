//! The files that pages load. They are in the program, so that a page works without the Internet.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

/// A file, with a name that changes when it changes, so that a browser may keep it for ever.
pub(super) struct Asset {
    name: String,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// Those of `functions/query/assets`.
pub(super) struct Assets {
    pub style: Asset,
    pub script: Asset,
    pub htmx: Asset,
    pub chart_style: Asset,
    pub charts: Asset,
}

pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: Asset::new("console", "css", include_bytes!("../../assets/console.css")),
    script: Asset::new("console", "js", include_bytes!("../../assets/console.js")),
    htmx: Asset::new("htmx", "js", include_bytes!("../../assets/vendor/htmx.min.js")),
    chart_style: Asset::new("uPlot", "css", include_bytes!("../../assets/vendor/uPlot.min.css")),
    charts: Asset::new("uPlot", "js", include_bytes!("../../assets/vendor/uPlot.iife.min.js")),
});

impl Asset {
    fn new(stem: &str, extension: &str, bytes: &'static [u8]) -> Self {
        let digest: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let media_type = if extension == "css" { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
        Asset { name: format!("{stem}-{digest}.{extension}"), media_type, bytes }
    }

    /// Its path.
    pub fn path(&self) -> String {
        format!("/console/assets/{}", self.name)
    }
}

/// Served without a session: they are the same for everybody.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let Assets { style, script, htmx, chart_style, charts } = &*ASSETS;
    let Some(found) = [style, script, htmx, chart_style, charts].into_iter().find(|asset| asset.name == name) else {
        // A page of another version names another file.
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(found.media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, found.bytes).into_response()
}
