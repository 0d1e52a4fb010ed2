//! Reading a query string.

use std::ops::RangeInclusive;

use axum::extract::Query;
use axum::http::Uri;
use event::TenantId;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{ParametersOf, QueryError};

/// The parameters that `T` names. Others are left alone.
///
/// # Errors
/// If the query string is not UTF-8, or has one of them twice.
pub fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, QueryError> {
    // The extractor would put a replacement character in place of other bytes, and look for something else.
    if percent_decode_str(uri.query().unwrap_or_default()).decode_utf8().is_err() {
        return Err(QueryError::Parameter { name: "a parameter", problem: "is not UTF-8" });
    }
    let unreadable = |_| QueryError::Parameter { name: "a parameter", problem: "is sent twice or cannot be read" };
    Query::try_from_uri(uri).map(|Query(parameters)| parameters).map_err(unreadable)
}

/// Whether there is a parameter of this name.
pub fn has(uri: &Uri, name: &str) -> bool {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    pairs.is_ok_and(|Query(pairs)| pairs.iter().any(|(given, _)| given == name))
}

/// Parameters that are not read yet, in their order.
pub struct Given(pub Vec<(String, String)>);

impl Given {
    /// As somebody meant who filled in a form: without blanks around a value, and without the fields that are empty.
    pub fn filled_in(self) -> Self {
        let fields = self.0.into_iter().map(|(name, value)| (name, value.trim().to_owned()));
        Given(fields.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The first of this name, which stays.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All of this name, which may be sent more than once.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(given, _)| given == name).map(|(_, value)| value).collect()
    }

    /// The tenant that is asked about, if the request says so.
    ///
    /// # Errors
    /// If it can be no tenant, or is sent twice.
    pub fn tenant(&mut self) -> Result<Option<TenantId>, QueryError> {
        self.take("tenant")?.map(|text| named_tenant(&text)).transpose()
    }

    /// # Errors
    /// If it is sent twice.
    pub fn take(&mut self, name: &'static str) -> Result<Option<String>, QueryError> {
        let mut found = None;
        while let Some(index) = self.0.iter().position(|(given, _)| given == name) {
            let (_, value) = self.0.swap_remove(index);
            if found.replace(value).is_some() {
                return Err(QueryError::Parameter { name, problem: "is sent twice" });
            }
        }
        Ok(found)
    }

    /// # Errors
    /// If one is left: it would be left out of account, and too much be found.
    pub fn end(mut self, of: ParametersOf) -> Result<(), QueryError> {
        self.0.pop().map_or(Ok(()), |(name, _)| Err(QueryError::NoSuchParameter { name, of }))
    }
}

/// The tenant that is asked about, if the request says so.
///
/// # Errors
/// If it can be no tenant, or the query string cannot be read.
pub fn tenant(uri: &Uri) -> Result<Option<TenantId>, QueryError> {
    #[derive(Deserialize)]
    struct Named {
        tenant: Option<String>,
    }
    let Named { tenant } = read(uri)?;
    tenant.map(|text| named_tenant(&text)).transpose()
}

fn named_tenant(text: &str) -> Result<TenantId, QueryError> {
    TenantId::new(text).map_err(|_| QueryError::Parameter { name: "tenant", problem: "is not the name of a tenant" })
}

/// Digits only: a receipt has no signs or spaces.
///
/// # Errors
/// If the text is anything else, or the number is beyond the range of its type.
pub fn number<T: std::str::FromStr>(name: &'static str, text: &str) -> Result<T, QueryError> {
    let out_of_range = QueryError::Parameter { name, problem: "is not a number in range" };
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(out_of_range);
    }
    text.parse().map_err(|_| out_of_range)
}

/// As [`number`], and within bounds, which `bound` tells.
///
/// # Errors
/// If the text is no number, or the number is out of bounds.
pub fn number_within<T: std::str::FromStr + PartialOrd>(
    name: &'static str,
    text: &str,
    bounds: RangeInclusive<T>,
    bound: &'static str,
) -> Result<T, QueryError> {
    let found = number(name, text)?;
    if bounds.contains(&found) { Ok(found) } else { Err(QueryError::OutOfBounds { name, bound }) }
}
