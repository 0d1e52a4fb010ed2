//! What all pages have: their frame, and the headers that say what a page may do.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use event::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::assets::ASSETS;

/// Nothing but our own files and forms, and no script or style inside a page.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                                connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The media type of pages.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// htmx puts a style into the page and evaluates texts unless it is told not to.
const HTMX: &str = r#"{"allowEval":false,"includeIndicatorStyles":false,"selfRequestsOnly":true,"historyCacheSize":0}"#;

/// A page without a session.
pub(super) fn bare_page(status: StatusCode, title: &str, content: &Markup) -> Response {
    document(status, title, &html! {}, content)
}

/// A whole page.
pub(super) fn document(status: StatusCode, title: &str, navigation: &Markup, content: &Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="htmx-config" content=(HTMX);
                title { (title) " – Forebay" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(ASSETS.chart_style.path());
                link rel="stylesheet" href=(ASSETS.style.path());
                script src=(ASSETS.charts.path()) defer {}
                script src=(ASSETS.htmx.path()) defer {}
                script src=(ASSETS.script.path()) defer {}
            }
            body {
                a class="skip" href="#content" { "Skip to the content" }
                header class="bar" {
                    a class="brand" href="/console" { "Forebay" }
                    (navigation)
                }
                main id="content" tabindex="-1" { h1 { (title) } (content) }
            }
        }
    };
    answer(status, markup)
}

/// A part of a page that is loaded again and again.
pub(super) fn fragment(content: Markup) -> Response {
    answer(StatusCode::OK, content)
}

fn answer(status: StatusCode, markup: Markup) -> Response {
    (status, [(header::CONTENT_TYPE, HTML)], markup.0).into_response()
}

/// What every answer may do. A file says itself for how long it may be kept.
pub(super) fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
        // Pages are of one operator, and some have a new key.
        (header::CACHE_CONTROL, "no-store"),
        // Not `no-referrer`, with which browsers say `Origin: null` for our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// The way to a page with parameters. Those without a value are left out.
pub(super) fn link(path: &str, parameters: &[(&str, &str)]) -> String {
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1).extend_pairs(given).finish()
}

/// An instant, for people and for programs.
pub(super) fn instant(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (at) } }
}

/// A column of a table, by its name.
pub(super) enum Column<'a> {
    Texts(&'a str),
    Numbers(&'a str),
}

/// The names above the columns of a table.
pub(super) fn head<'c>(columns: impl IntoIterator<Item = Column<'c>>) -> Markup {
    html! {
        thead {
            tr {
                @for column in columns {
                    @match column {
                        Column::Texts(name) => th scope="col" { (name) },
                        Column::Numbers(name) => th scope="col" class="number" { (name) },
                    }
                }
            }
        }
    }
}

/// A table with these columns.
pub(super) fn table<'c>(name: &str, columns: impl IntoIterator<Item = Column<'c>>, rows: &Markup) -> Markup {
    scrolling(name, &html! { table { (head(columns)) tbody { (rows) } } })
}

/// A table whose columns are all named as texts are.
pub(super) fn text_table(name: &str, columns: &[&str], rows: &Markup) -> Markup {
    table(name, columns.iter().copied().map(Column::Texts), rows)
}

/// What scrolls by itself where the screen is narrow.
pub(super) fn scrolling(name: &str, table: &Markup) -> Markup {
    html! { div class="scroll" role="region" aria-label=(name) tabindex="0" { (table) } }
}

/// `1 letter`, `2 letters`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What was done.
pub(super) fn done(text: &str) -> Markup {
    html! { p class="notice done" role="status" { (text) } }
}

/// What went wrong.
pub(super) fn wrong(text: &str) -> Markup {
    html! { p class="notice wrong" role="alert" { (text) } }
}

/// A field of a form with its name above it.
pub(super) fn field(label: &str, input: &Markup) -> Markup {
    html! { label class="field" { span { (label) } (input) } }
}

/// The tenant that a page is about.
pub(super) fn tenant_field(tenant: &str) -> Markup {
    field("Tenant", &html! { input name="tenant" value=(tenant) autocomplete="off" required; })
}
