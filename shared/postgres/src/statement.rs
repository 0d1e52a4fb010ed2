//! Statements, and parameters with the types in which they are sent.
//!
//! A statement with a name is parsed and planned once on each connection. But the name belongs to one connection of the
//! server, and a pooler gives each transaction another one: it refuses named statements, or pins the client. A statement
//! without a name is parsed, bound and run in one round trip, also the first time, if the client says which types its
//! parameters have. The price is that the server plans it each time. So a statement on `events` without a name must
//! name the days that it needs as parameters of their own: then only the partitions of these days are planned for and
//! locked, not every one there is.

use std::net::IpAddr;

use deadpool_postgres::ClientWrapper;
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use time::{Date, OffsetDateTime};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};

/// A statement that can be sent in any order with others, because nothing about it has to be asked from the server first.
pub(crate) enum Ready {
    Named(Statement),
    Unnamed(&'static str),
}

impl Ready {
    /// Statements with a name. Only the first time on a connection does this ask the server. It must be done outside of
    /// the transaction: a statement that is not prepared yet would be sent after those that follow it.
    pub(crate) async fn named<const N: usize>(
        client: &ClientWrapper,
        sql: [&'static str; N],
    ) -> Result<[Self; N], Error> {
        let prepared = try_join_all(sql.map(|sql| client.prepare_cached(sql))).await?;
        let mut ready = sql.map(Ready::Unnamed);
        for (ready, statement) in ready.iter_mut().zip(prepared) {
            *ready = Ready::Named(statement);
        }
        Ok(ready)
    }

    pub(crate) async fn query(&self, client: &ClientWrapper, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Error> {
        match self {
            Ready::Named(statement) => client.query_raw(statement, values(parameters)).await?.try_collect().await,
            Ready::Unnamed(sql) => client.query_typed(sql, parameters).await,
        }
    }

    pub(crate) async fn execute(&self, client: &ClientWrapper, parameters: &[Parameter<'_>]) -> Result<u64, Error> {
        match self {
            Ready::Named(statement) => client.execute_raw(statement, values(parameters)).await,
            Ready::Unnamed(sql) => client.execute_typed(sql, parameters).await,
        }
    }
}

fn values<'p>(parameters: &'p [Parameter<'_>]) -> impl ExactSizeIterator<Item = &'p (dyn ToSql + Sync)> {
    parameters.iter().map(|(value, _)| *value)
}

/// A value and the type with which it is sent.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);
pub(crate) type Parameters<'a, const N: usize> = [Parameter<'a>; N];

/// A type whose values are always sent as one type of Postgres.
pub(crate) trait SqlType: ToSql + Sync {
    const TYPE: Type;
}

pub(crate) fn parameter<T: SqlType>(value: &T) -> Parameter<'_> {
    (value, T::TYPE)
}

/// One value, which may be NULL, and a column of values.
macro_rules! sql_types {
    ($($rust:ty: $one:ident, $column:ident;)*) => {$(
        impl SqlType for $rust {
            const TYPE: Type = Type::$one;
        }
        impl SqlType for Vec<$rust> {
            const TYPE: Type = Type::$column;
        }
        impl SqlType for Vec<Option<$rust>> {
            const TYPE: Type = Type::$column;
        }
        impl SqlType for Option<$rust> {
            const TYPE: Type = Type::$one;
        }
    )*};
}

sql_types! {
    bool: BOOL, BOOL_ARRAY;
    i16: INT2, INT2_ARRAY;
    i32: INT4, INT4_ARRAY;
    i64: INT8, INT8_ARRAY;
    &str: TEXT, TEXT_ARRAY;
    String: TEXT, TEXT_ARRAY;
    &[u8]: BYTEA, BYTEA_ARRAY;
    Vec<u8>: BYTEA, BYTEA_ARRAY;
    IpAddr: INET, INET_ARRAY;
    Date: DATE, DATE_ARRAY;
    OffsetDateTime: TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
}
