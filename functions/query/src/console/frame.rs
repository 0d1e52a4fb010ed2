//! What is around every page of an operator: the way to the others, and out.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use strum::VariantArray;

use super::layout::document;
use super::operator::Operator;

/// The parts of the console, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(super) enum Section {
    Overview,
    Events,
    Campaigns,
    DeadLetters,
    Blocks,
    Keys,
    Audit,
}

impl Section {
    pub const fn path(self) -> &'static str {
        match self {
            Section::Overview => "/console",
            Section::Events => "/console/events",
            Section::Campaigns => "/console/campaigns",
            Section::DeadLetters => "/console/dead-letters",
            Section::Blocks => "/console/blocks",
            Section::Keys => "/console/keys",
            Section::Audit => "/console/audit",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Section::Overview => "Overview",
            Section::Events => "Events",
            Section::Campaigns => "Campaigns",
            Section::DeadLetters => "Dead letters",
            Section::Blocks => "Blocks",
            Section::Keys => "API keys",
            Section::Audit => "Audit trail",
        }
    }
}

/// A page for an operator who is signed in.
pub(super) fn page(operator: &Operator, section: Section, content: &Markup) -> Response {
    let navigation = html! {
        nav aria-label="Console" {
            ul {
                @for other in Section::VARIANTS {
                    li { a href=(other.path()) aria-current=[(*other == section).then_some("page")] { (other.title()) } }
                }
            }
        }
        form class="sign-out" method="post" action="/console/sign-out" {
            (operator.csrf_field())
            span { "Signed in with " strong { (operator.key.name) } }
            button { "Sign out" }
        }
    };
    document(StatusCode::OK, section.title(), &navigation, content)
}
